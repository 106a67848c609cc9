import { createHash } from 'node:crypto';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import {
  CreateFleetCommand,
  type CreateFleetResult,
  DescribeLaunchTemplateVersionsCommand,
  EC2Client,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { LaunchRefused, NoCapacity } from '../core/errors.ts';
import type { HostSpec } from '../core/host-spec.ts';
import { isAlive } from '../core/state.ts';
import { DATABASE_TAG, EXECUTION_TAG, ROLE_TAG } from '../core/tags.ts';
import { withVariables } from '../core/user-data.ts';
import type { Database } from '../shared/database.ts';
import { readHostSpec } from '../shared/host-spec.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';
import { packUserData } from './user-data.ts';

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

type Lifecycle = 'spot' | 'on-demand';

/** What EC2 said instead of launching. */
interface Refusal {
  readonly code: string;
  readonly text: string;
}

/** The launch template at its newest version. */
interface Template {
  readonly version: string;
  /** A script, decoded. */
  readonly userData: string;
}

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
  'InvalidFleetConfiguration', // the same, as CreateFleet says it
  'RequestLimitExceeded',
  'InternalError',
  'Unavailable',
  'ServiceUnavailable',
]);

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
    readTemplate(database),
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
  const refusals: Refusal[] = [];
  const lifecycles: readonly Lifecycle[] = wanted.lifecycle ? [wanted.lifecycle] : ['spot', 'on-demand'];
  // AWS withdraws old images. Then that of the launch template, which each deployment renews, is better than no host;
  // but not in place of one that is asked for.
  const amis = spec.ami && spec.ami !== wanted.host?.ami ? [spec.ami, undefined] : [spec.ami];
  for (const ami of amis) {
    for (const lifecycle of lifecycles) {
      const launched = await launch(input, { ...template, userData }, { ...spec, ami }, lifecycle, refusals);
      if (!launched) continue;
      logger.info('launched a replacement', { execution, attempt, ...launched, refusals: texts(refusals) });
      return launched;
    }
    if (!refusals.some(({ code }) => code.startsWith('InvalidAMIID'))) break;
  }
  const said = texts(refusals).join(', ') || 'EC2 gave no reason';
  if (refusals.every(({ code }) => MAY_PASS.has(code))) {
    throw new NoCapacity(`no capacity for ${database.name} (${said}): add instance types if this lasts`);
  }
  throw new LaunchRefused(`EC2 launched no host for ${database.name}: ${said}`);
}).use(injectLambdaContext(logger));

function texts(refusals: readonly Refusal[]): string[] {
  return refusals.map(({ text }) => text);
}

/** One request for a host. @returns the host, or nothing after what EC2 said was added to the refusals */
async function launch(
  input: LaunchInput,
  template: Template,
  spec: Pick<HostSpec, 'instanceTypes'> & { readonly ami: string | undefined },
  lifecycle: Lifecycle,
  refusals: Refusal[],
): Promise<{ host: string; lifecycle: Lifecycle; type: string | undefined } | undefined> {
  const fleet = await createFleet(input, template, spec, lifecycle).catch((error: Error) => {
    // Whatever is wrong with Spot (a quota, a missing service-linked role) is no reason not to try on demand.
    refusals.push({ code: error.name, text: `${lifecycle}: ${error.name}: ${error.message}` });
    return { Instances: [], Errors: [] } satisfies CreateFleetResult;
  });
  const launched = fleet.Instances?.[0];
  const host = launched?.InstanceIds?.[0];
  if (host) return { host, lifecycle, type: launched?.InstanceType };
  for (const error of fleet.Errors ?? []) {
    const type = error.LaunchTemplateAndOverrides?.Overrides?.InstanceType ?? 'every type';
    refusals.push({ code: error.ErrorCode ?? 'unknown', text: `${lifecycle} ${type}: ${error.ErrorCode}` });
  }
  return undefined;
}

async function readTemplate(database: Database): Promise<Template> {
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
  { version, userData }: Template,
  { instanceTypes, ami }: Pick<HostSpec, 'instanceTypes'> & { readonly ami: string | undefined },
  lifecycle: Lifecycle,
): Promise<CreateFleetResult> {
  return ec2.send(
    new CreateFleetCommand({
      Type: 'instant',
      // The task token is in it because every launch has its own: the same one twice is the same request twice.
      ClientToken: createHash('sha256')
        .update(`${execution}/${attempt}/${lifecycle}/${ami}/${taskToken}`)
        .digest('hex'),
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: database.launchTemplateId,
            Version: version,
            LaunchTemplateSpecificationUserData: packUserData(userData),
          },
          Overrides: instanceTypes.map((InstanceType, index) => ({
            InstanceType: InstanceType as never, // the configuration may name types that are newer than the SDK
            SubnetId: database.subnetId,
            ...(ami && { ImageId: ami }),
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
