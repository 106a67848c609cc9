import { createHash } from 'node:crypto';
import {
  CreateFleetCommand,
  type CreateFleetResult,
  DescribeLaunchTemplateVersionsCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { LaunchRefused, NoCapacity } from '../core/errors.ts';
import { DATABASE_TAG, EXECUTION_TAG, IMAGE_TAG, ROLE_TAG } from '../core/tags.ts';
import { packUserData, unpackUserData } from './user-data.ts';

export type Lifecycle = 'spot' | 'on-demand';

/** The launch template at its newest version. */
export interface Template {
  readonly id: string;
  readonly version: string;
  /** A script, decoded. */
  readonly userData: string;
}

/** One host that is to be launched. */
export interface HostRequest {
  readonly database: string;
  /** The tag `keeper:role`. */
  readonly role: 'host' | 'scratch';
  readonly execution: string;
  /** Makes the request one of its own: the same one twice is the same host. */
  readonly token: string;
  readonly template: Template;
  /** The container image, for the tag that says so. */
  readonly image: string;
  /** In the order of preference for on-demand. */
  readonly instanceTypes: readonly string[];
  readonly subnetId: string;
  /** In the order in which they are tried. */
  readonly lifecycles: readonly Lifecycle[];
  /** In the order in which they are tried, each only when AWS does not know the one before; undefined: the template's. */
  readonly amis: readonly (string | undefined)[];
  /** A volume with the content of this snapshot is born and ends with the host. */
  readonly snapshotId?: string;
}

export interface Launched {
  readonly host: string;
  readonly lifecycle: Lifecycle;
  readonly type: string | undefined;
  /** What EC2 said to the requests before. */
  readonly refusals: readonly string[];
}

/** What EC2 said instead of launching. */
interface Refusal {
  readonly code: string;
  readonly text: string;
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

/** Where a host finds the volume that it was launched with; an NVMe guest finds it by its id. */
const DATA_DEVICE = '/dev/sdf';

/** @throws LaunchRefused when the template has no user data */
export async function readTemplate(ec2: EC2Client, launchTemplateId: string): Promise<Template> {
  const { LaunchTemplateVersions } = await ec2.send(
    new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateId: launchTemplateId, Versions: ['$Latest'] }),
  );
  const latest = LaunchTemplateVersions?.[0];
  const userData = latest?.LaunchTemplateData?.UserData;
  if (!latest?.VersionNumber || !userData) {
    throw new LaunchRefused(`the launch template ${launchTemplateId} has no user data: deploy the stack again`);
  }
  return {
    id: launchTemplateId,
    version: String(latest.VersionNumber),
    userData: unpackUserData(userData),
  };
}

/**
 * Launches one host, over all instance types at once.
 *
 * @throws NoCapacity with what EC2 said of each type
 * @throws LaunchRefused when EC2 gives another reason
 */
export async function launchHost(ec2: EC2Client, request: HostRequest): Promise<Launched> {
  const refusals: Refusal[] = [];
  for (const ami of request.amis) {
    for (const lifecycle of request.lifecycles) {
      const launched = await tryToLaunch(ec2, request, lifecycle, ami, refusals);
      if (launched) return { ...launched, lifecycle, refusals: refusals.map(({ text }) => text) };
    }
    if (!refusals.some(({ code }) => code.startsWith('InvalidAMIID'))) break;
  }
  const said = refusals.map(({ text }) => text).join(', ') || 'EC2 gave no reason';
  if (refusals.every(({ code }) => MAY_PASS.has(code))) {
    throw new NoCapacity(`no capacity for ${request.database} (${said}): add instance types if this lasts`);
  }
  throw new LaunchRefused(`EC2 launched no host for ${request.database}: ${said}`);
}

/** @returns the host, or nothing after what EC2 said was added to the refusals */
async function tryToLaunch(
  ec2: EC2Client,
  request: HostRequest,
  lifecycle: Lifecycle,
  ami: string | undefined,
  refusals: Refusal[],
): Promise<Pick<Launched, 'host' | 'type'> | undefined> {
  const fleet = await createFleet(ec2, request, lifecycle, ami).catch((error: Error) => {
    // Whatever is wrong with Spot (a quota, a missing service-linked role) is no reason not to try on demand.
    refusals.push({ code: error.name, text: `${lifecycle}: ${error.name}: ${error.message}` });
    return { Instances: [], Errors: [] } satisfies CreateFleetResult;
  });
  const launched = fleet.Instances?.[0];
  const host = launched?.InstanceIds?.[0];
  if (host) return { host, type: launched?.InstanceType };
  for (const error of fleet.Errors ?? []) {
    const type = error.LaunchTemplateAndOverrides?.Overrides?.InstanceType ?? 'every type';
    refusals.push({ code: error.ErrorCode ?? 'unknown', text: `${lifecycle} ${type}: ${error.ErrorCode}` });
  }
  return undefined;
}

function createFleet(
  ec2: EC2Client,
  { database, role, execution, token, image, template, instanceTypes, subnetId, snapshotId }: HostRequest,
  lifecycle: Lifecycle,
  ami: string | undefined,
): Promise<CreateFleetResult> {
  return ec2.send(
    new CreateFleetCommand({
      Type: 'instant',
      ClientToken: createHash('sha256').update(`${execution}/${lifecycle}/${ami}/${token}`).digest('hex'),
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: template.id,
            Version: template.version,
            LaunchTemplateSpecificationUserData: packUserData(template.userData),
          },
          Overrides: instanceTypes.map((InstanceType, index) => ({
            InstanceType: InstanceType as never, // the configuration may name types that are newer than the SDK
            SubnetId: subnetId,
            ...(ami && { ImageId: ami }),
            ...(snapshotId && { BlockDeviceMappings: [dataVolumeOf(snapshotId)] }),
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
          { Key: 'Name', Value: `keeper ${database}` },
          { Key: DATABASE_TAG, Value: database },
          { Key: ROLE_TAG, Value: role },
          { Key: EXECUTION_TAG, Value: execution },
          { Key: IMAGE_TAG, Value: image },
        ],
      })),
    }),
  );
}

function dataVolumeOf(SnapshotId: string) {
  return { DeviceName: DATA_DEVICE, Ebs: { SnapshotId, VolumeType: 'gp3' as const, DeleteOnTermination: true } };
}
