import { createHash } from 'node:crypto';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import {
  CreateFleetCommand,
  type CreateFleetResult,
  DescribeLaunchTemplateVersionsCommand,
  EC2Client,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import middy from '@middy/core';
import { LaunchRefused, NoCapacity } from '../core/errors.ts';
import { isAlive } from '../core/state.ts';
import { DATABASE_TAG, EXECUTION_TAG, ROLE_TAG } from '../core/tags.ts';
import { withVariables } from '../core/user-data.ts';
import type { Database } from '../shared/database.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/relocate.ts, state "Arm a replacement" */
export interface LaunchInput {
  readonly database: Database;
  readonly execution: string;
  readonly attempt: number;
  /** The host reports with it that it is armed. */
  readonly taskToken: string;
}

type Lifecycle = 'spot' | 'on-demand';

/**
 * Refusals that say nothing against the request itself: another type, or the same one later, may do.
 * @see docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 */
const MAY_PASS = new Set([
  'InsufficientInstanceCapacity',
  'InsufficientHostCapacity',
  'InsufficientCapacity',
  'UnfulfillableCapacity',
  'MaxSpotInstanceCountExceeded',
  'SpotMaxPriceTooLow',
  'InstanceLimitExceeded',
  'VcpuLimitExceeded',
  'Unsupported', // the zone does not have this type
  'RequestLimitExceeded',
  'InternalError',
  'Unavailable',
  'ServiceUnavailable',
]);

const ec2 = new EC2Client({});

/**
 * Launches one replacement: Spot first, over all types at once; on demand when there is no Spot capacity. It reports by
 * task token once it is armed, so what this function returns is for the log only.
 *
 * @throws NoCapacity with what EC2 said of each type
 * @throws LaunchRefused when EC2 gives another reason
 */
export const handler = middy(async (input: LaunchInput) => {
  const { database, execution, attempt } = input;
  const [{ volume, hosts }, template] = await Promise.all([observe(ec2, database), readTemplate(database)]);

  // A replacement of an earlier attempt reports with a token that nobody waits for any longer.
  const stale = hosts.filter((h) => h.execution === execution && isAlive(h) && h.id !== volume.attachment?.hostId);
  if (stale.length > 0) {
    const InstanceIds = stale.map((host) => host.id);
    await ec2.send(new TerminateInstancesCommand({ InstanceIds }));
    logger.warn('terminated replacements that did not report armed', { execution, hosts: InstanceIds });
  }

  const userData = withVariables(template.userData, {
    KEEPER_VOLUME_ID: database.volumeId,
    KEEPER_FORMAT_BLANK: String(volume.blank),
    KEEPER_TASK_TOKEN: input.taskToken,
  });
  const refusals: { code: string; text: string }[] = [];
  for (const lifecycle of ['spot', 'on-demand'] as const) {
    const fleet = await createFleet(input, template.version, userData, lifecycle).catch((error: Error) => {
      // Whatever is wrong with Spot (a quota, a missing service-linked role) is no reason not to try on demand.
      refusals.push({ code: error.name, text: `${lifecycle}: ${error.name}: ${error.message}` });
      return { Instances: [], Errors: [] } satisfies CreateFleetResult;
    });
    const host = fleet.Instances?.[0]?.InstanceIds?.[0];
    if (host) {
      const type = fleet.Instances?.[0]?.InstanceType;
      logger.info('launched a replacement', { execution, attempt, host, lifecycle, type, refusals: texts(refusals) });
      return { host, lifecycle };
    }
    for (const error of fleet.Errors ?? []) {
      const type = error.LaunchTemplateAndOverrides?.Overrides?.InstanceType ?? 'every type';
      refusals.push({ code: error.ErrorCode ?? 'unknown', text: `${lifecycle} ${type}: ${error.ErrorCode}` });
    }
  }
  const said = texts(refusals).join(', ') || 'EC2 gave no reason';
  if (refusals.every(({ code }) => MAY_PASS.has(code))) {
    throw new NoCapacity(`no capacity for ${database.name} (${said}): add instance types if this lasts`);
  }
  throw new LaunchRefused(`EC2 launched no host for ${database.name}: ${said}`);
}).use(injectLambdaContext(logger));

function texts(refusals: readonly { readonly text: string }[]): string[] {
  return refusals.map(({ text }) => text);
}

async function readTemplate(database: Database): Promise<{ version: string; userData: string }> {
  const { LaunchTemplateVersions } = await ec2.send(
    new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateId: database.launchTemplateId, Versions: ['$Latest'] }),
  );
  const latest = LaunchTemplateVersions?.[0];
  const userData = latest?.LaunchTemplateData?.UserData;
  if (!latest?.VersionNumber || !userData) {
    throw new LaunchRefused(
      `the launch template ${database.launchTemplateId} has no user data: deploy the stack again`,
    );
  }
  return { version: String(latest.VersionNumber), userData: Buffer.from(userData, 'base64').toString() };
}

async function createFleet(
  { database, execution, attempt, taskToken }: LaunchInput,
  version: string,
  userData: string,
  lifecycle: Lifecycle,
): Promise<CreateFleetResult> {
  return ec2.send(
    new CreateFleetCommand({
      Type: 'instant',
      // The task token is in it because every launch has its own: the same one twice is the same request twice.
      ClientToken: createHash('sha256').update(`${execution}/${attempt}/${lifecycle}/${taskToken}`).digest('hex'),
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: database.launchTemplateId,
            Version: version,
            LaunchTemplateSpecificationUserData: Buffer.from(userData).toString('base64'),
          },
          Overrides: database.instanceTypes.map((InstanceType, index) => ({
            InstanceType: InstanceType as never, // the configuration may name types that are newer than the SDK
            SubnetId: database.subnetId,
            ...(lifecycle === 'on-demand' && { Priority: index }),
          })),
        },
      ],
      TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: lifecycle },
      ...(lifecycle === 'spot'
        ? { SpotOptions: { AllocationStrategy: 'price-capacity-optimized' } }
        : { OnDemandOptions: { AllocationStrategy: 'prioritized' } }),
      // The launch template tags volumes too, but IAM may look at the tags of the request alone.
      TagSpecifications: (['instance', 'volume'] as const).map((ResourceType) => ({
        ResourceType,
        Tags: [
          { Key: 'Name', Value: `keeper ${database.name}` },
          { Key: DATABASE_TAG, Value: database.name },
          { Key: ROLE_TAG, Value: 'host' },
          { Key: EXECUTION_TAG, Value: execution },
        ],
      })),
    }),
  );
}
