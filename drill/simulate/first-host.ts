import { BLANK_TAG, DATABASE_TAG, EXECUTION_TAG, ROLE_TAG, VERIFIED_AT_TAG } from '../../functions/core/tags.ts';
import type { VirtualClock } from '../cloud/clock.ts';
import type { DeployedStack } from '../cloud/cloudformation.ts';
import { decodeUserData } from '../cloud/ec2/launch-template.ts';
import type { ServiceName, Shape } from '../cloud/kernel.ts';
import type { ModelledHosts } from '../hosts/modelled.ts';
import type { LocalCloud } from '../local-cloud.ts';

interface Configuration {
  readonly launchTemplateId: string;
  readonly subnetId: string;
  /** The floating address. */
  readonly address: string;
}

/**
 * Puts a new database on its first host, as its first relocation would have left it, but without that relocation: thousands
 * of schedules need not play it each time. AWS takes no time for it.
 */
export async function placeFirstHost(
  local: LocalCloud<ModelledHosts>,
  clock: VirtualClock,
  stacks: readonly DeployedStack[],
  name: string,
): Promise<void> {
  const { cloud, events, iam, ssm } = local;
  const call = (service: ServiceName, operation: string, input: Shape): Promise<Shape> =>
    clock.run(cloud.call({ service, operation, input, caller: iam.administrator }));
  cloud.latencyScale = 0;
  events.pauseSchedules();

  const { launchTemplateId, subnetId, address } = configurationOf(stacks, name);
  const volumeId = ssm.parameterValue(`/keeper/${name}/volume-id`);
  const { LaunchTemplateVersions } = await call('ec2', 'DescribeLaunchTemplateVersions', {
    LaunchTemplateId: launchTemplateId,
    Versions: ['$Latest'],
  });
  const script = decodeUserData(LaunchTemplateVersions[0].LaunchTemplateData.UserData);
  const [instanceType] = ssm.parameterValue(`/keeper/${name}/host/instance-types`).split(',');
  const image = ssm.parameterValue(`/keeper/${name}/host/image`);
  const variables = { KEEPER_IMAGE: image, KEEPER_VOLUME_ID: volumeId, KEEPER_FORMAT_BLANK: 'true' };
  const lines = Object.entries(variables).map(([key, value]) => `export ${key}='${value}'\n`);
  const userData = script.replace('\n', () => `\n${lines.join('')}`);
  const { Instances } = await call('ec2', 'CreateFleet', {
    Type: 'instant',
    LaunchTemplateConfigs: [
      {
        LaunchTemplateSpecification: {
          LaunchTemplateId: launchTemplateId,
          Version: '$Latest',
          LaunchTemplateSpecificationUserData: Buffer.from(userData).toString('base64'),
        },
        Overrides: [{ InstanceType: instanceType, SubnetId: subnetId }],
      },
    ],
    TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'spot' },
    TagSpecifications: [
      {
        ResourceType: 'instance',
        Tags: [
          { Key: DATABASE_TAG, Value: name },
          { Key: ROLE_TAG, Value: 'host' },
          { Key: EXECUTION_TAG, Value: `${name}-first` },
        ],
      },
    ],
  });
  const instanceId: string = Instances[0].InstanceIds[0];
  await clock.pass(1_000);
  await call('ec2', 'AttachVolume', { VolumeId: volumeId, InstanceId: instanceId, Device: '/dev/sdf' });
  const NetworkInterfaceId = local.ec2.machine(instanceId)?.identity.interfaceId;
  await call('ec2', 'AssignPrivateIpAddresses', {
    NetworkInterfaceId,
    PrivateIpAddresses: [address],
    AllowReassignment: true,
  });
  for (let seconds = 0; local.hosts.servingHost(address) !== instanceId; seconds++) {
    if (seconds > 60) throw new Error(`the first host ${instanceId} does not serve`);
    await clock.pass(1_000);
  }
  const Tags = [{ Key: VERIFIED_AT_TAG, Value: new Date(clock.now()).toISOString() }];
  await call('ec2', 'CreateTags', { Resources: [instanceId], Tags });
  await call('ec2', 'DeleteTags', { Resources: [volumeId], Tags: [{ Key: BLANK_TAG }] });

  events.resumeSchedules();
  cloud.latencyScale = 1;
}

/** What the relocate machine knows of the database. */
function configurationOf(stacks: readonly DeployedStack[], name: string): Configuration {
  for (const { resources } of stacks) {
    for (const { type, properties } of resources.values()) {
      if (type !== 'AWS::StepFunctions::StateMachine') continue;
      const { States } = JSON.parse(properties.DefinitionString);
      const configured = States['Read the configuration']?.Assign.configured[name];
      if (configured) return configured;
    }
  }
  throw new Error(`no state machine knows the database ${name}`);
}
