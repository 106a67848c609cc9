import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import type { HostSpec } from '../core/host-spec.ts';
import { isAlive } from '../core/state.ts';
import { withVariables } from '../core/user-data.ts';
import type { Database } from '../shared/database.ts';
import { type Lifecycle, launchHost, readTemplate } from '../shared/fleet.ts';
import { readHostSpec } from '../shared/host-spec.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/relocate.ts, state "Arm a replacement" */
export interface LaunchInput {
  readonly database: Database;
  readonly execution: string;
  readonly attempt: number;
  /** What is to be different from how hosts of this database are made otherwise. */
  readonly wanted: { readonly host?: Partial<HostSpec>; readonly lifecycle?: Lifecycle };
  /** The host reports with it that it is armed. */
  readonly taskToken: string;
}

const ec2 = new EC2Client({});
const ssm = new SSMClient({});

/**
 * Launches one replacement: Spot first, over all types at once; on demand when there is no Spot capacity. It reports by
 * task token once it is armed, so what this function returns is for the log only.
 *
 * @throws NoCapacity with what EC2 said of each type
 * @throws LaunchRefused when EC2 gives another reason
 */
export const handler = middy(async (input: LaunchInput) => {
  const { database, execution, attempt, wanted } = input;
  const [{ volume, hosts }, template, recorded] = await Promise.all([
    observe(ec2, database),
    readTemplate(ec2, database.launchTemplateId),
    readHostSpec(ssm, database.name),
  ]);
  const spec = { ...recorded, ...wanted.host };

  // A replacement of an earlier attempt reports with a token that nobody waits for any longer.
  const stale = hosts.filter((h) => h.execution === execution && isAlive(h) && h.id !== volume.attachment?.hostId);
  if (stale.length > 0) {
    const InstanceIds = stale.map((host) => host.id);
    await ec2.send(new TerminateInstancesCommand({ InstanceIds }));
    logger.warn('terminated replacements that did not report armed', { execution, hosts: InstanceIds });
  }

  const userData = withVariables(template.userData, {
    KEEPER_IMAGE: spec.image,
    KEEPER_VOLUME_ID: database.volumeId,
    KEEPER_FORMAT_BLANK: String(volume.blank),
    KEEPER_TASK_TOKEN: input.taskToken,
  });
  const launched = await launchHost(ec2, {
    database: database.name,
    role: 'host',
    execution,
    image: spec.image,
    token: `${attempt}/${input.taskToken}`,
    template: { ...template, userData },
    instanceTypes: spec.instanceTypes,
    subnetId: database.subnetId,
    lifecycles: wanted.lifecycle ? [wanted.lifecycle] : ['spot', 'on-demand'],
    // AWS withdraws old images. Then that of the launch template, which each deployment renews, is better than no host;
    // but not in place of one that is asked for.
    amis: spec.ami && spec.ami !== wanted.host?.ami ? [spec.ami, undefined] : [spec.ami],
  });
  logger.info('launched a replacement', { execution, attempt, ...launched });
  return launched;
}).use(injectLambdaContext(logger));
