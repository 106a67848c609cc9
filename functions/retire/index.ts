import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { CreateTagsCommand, DeleteTagsCommand, EC2Client, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import type { HostSpec } from '../core/host-spec.ts';
import { isAlive } from '../core/state.ts';
import { BLANK_TAG, VERIFIED_AT_TAG } from '../core/tags.ts';
import type { Database } from '../shared/database.ts';
import { recordHostSpec } from '../shared/host-spec.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/relocate.ts, states "Retire the source" and "Clean up" */
export interface RetireInput {
  readonly database: Database;
  readonly execution: string;
  /** The hosts that were left. */
  readonly sources: readonly string[];
  /** The host that has passed verification, or nothing. */
  readonly verified: string;
  /** How hosts are to be made from now on, as far as the verified one has proven something new. */
  readonly record?: Partial<HostSpec>;
}

const ec2 = new EC2Client({});
const ssm = new SSMClient({});

/**
 * Records what was proven: that the verified host serves, that hosts like it do, and that the volume holds a database. Then
 * terminates the hosts that were left and the replacements of this relocation that do not hold the volume. The host that
 * holds it is never terminated here, whatever the input says; neither is one of another relocation.
 */
export const handler = middy(async ({ database, execution, sources, verified, record = {} }: RetireInput) => {
  const { volume, hosts } = await observe(ec2, database);
  if (verified && verified === volume.attachment?.hostId) {
    const Tags = [{ Key: VERIFIED_AT_TAG, Value: new Date().toISOString() }];
    await ec2.send(new CreateTagsCommand({ Resources: [verified], Tags }));
    if (Object.keys(record).length > 0) await recordHostSpec(ssm, database.name, record);
    if (volume.blank) await ec2.send(new DeleteTagsCommand({ Resources: [volume.id], Tags: [{ Key: BLANK_TAG }] }));
  }
  const retired = hosts
    .filter((host) => sources.includes(host.id) || host.execution === execution)
    .filter((host) => host.id !== volume.attachment?.hostId)
    .filter((host) => isAlive(host) || host.state === 'stopped' || host.state === 'stopping')
    .map((host) => host.id);
  if (retired.length > 0) await ec2.send(new TerminateInstancesCommand({ InstanceIds: retired }));
  logger.info('retired', { execution, retired });
  const holder = hosts.find((host) => host.id === volume.attachment?.hostId);
  return { retired, lifecycle: holder?.lifecycle ?? 'none', instanceType: holder?.instanceType ?? 'none' };
}).use(injectLambdaContext(logger));
