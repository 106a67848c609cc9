import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { withVariables } from '../core/user-data.ts';
import type { Database } from '../shared/database.ts';
import { launchHost, readTemplate } from '../shared/fleet.ts';
import { readHostSpec } from '../shared/host-spec.ts';
import { logger } from '../shared/logger.ts';

/** @see workflows/verify-backup.ts, state "Prove it" */
export interface ProveInput {
  readonly database: Database;
  readonly execution: string;
  readonly attempt: number;
  readonly snapshotId: string;
  /** The census that has to be in the clone; empty when none was written before the snapshot. */
  readonly census: string;
  readonly level: 'quick' | 'full';
  /** The scratch host reports with it what it has found. */
  readonly taskToken: string;
}

const ec2 = new EC2Client({});
const ssm = new SSMClient({});

/**
 * Launches a scratch host with a clone of the recovery point, which ends with it. The host itself reports what it finds.
 *
 * @throws NoCapacity
 * @throws LaunchRefused
 */
export const handler = middy(async (input: ProveInput) => {
  const { database, execution, attempt, snapshotId, census, level, taskToken } = input;
  const [template, spec] = await Promise.all([
    readTemplate(ec2, database.scratchTemplateId),
    readHostSpec(ssm, database.name),
  ]);
  const launched = await launchHost(ec2, {
    database: database.name,
    role: 'scratch',
    execution,
    image: spec.image,
    token: `${attempt}/${taskToken}`,
    template: {
      ...template,
      userData: withVariables(template.userData, {
        KEEPER_IMAGE: spec.image,
        KEEPER_CENSUS: census,
        KEEPER_LEVEL: level,
        KEEPER_TASK_TOKEN: taskToken,
      }),
    },
    instanceTypes: database.configuredTypes,
    subnetId: database.subnetId,
    lifecycles: ['spot', 'on-demand'],
    amis: spec.ami ? [spec.ami, undefined] : [undefined],
    snapshotId,
  });
  logger.info('launched a scratch host', { execution, attempt, snapshotId, ...launched });
  return launched;
}).use(injectLambdaContext(logger));
