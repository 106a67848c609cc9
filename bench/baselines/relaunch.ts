import { decodeUserData } from '../../drill/cloud/ec2/launch-template.ts';
import type { Shape } from '../../drill/cloud/kernel.ts';
import type { Operator } from './operator.ts';

/** How often the peer looks. @see github.com/pg-spot-ops/pg-spot-operator, PGSO_MAIN_LOOP_INTERVAL_S and its default */
const POLL_SECONDS = 60;
/** Once it has seen the loss it may be quick: kinder than any waiter. */
const QUICK_SECONDS = 1;

/**
 * Relaunch after loss, as the closest open-source peer does it: a daemon outside looks once a minute whether the instance
 * runs; if not, it launches another one from the same template with the same user data, attaches the volume when that is
 * free, and moves the address. Whatever it could have heard before, a Spot notice too, it does not listen to.
 *
 * @param phase of its first look, from 0 to 1: losses know nothing of the daemon's clock
 */
export async function relaunchAfterLoss(operator: Operator, lostId: string, phase: number): Promise<void> {
  const lost = await operator.instance(lostId);
  const volumeId = await operator.parameter('volume-id');
  await operator.sleep(phase * POLL_SECONDS);
  await operator.waitUntil(async () => (await operator.instance(lostId))?.State.Name !== 'running', POLL_SECONDS);

  const instanceId = await launchLike(operator, lost, volumeId);
  const runs = async () => (await operator.instance(instanceId))?.State.Name === 'running';
  const isFree = async () => (await operator.volume(volumeId)).State === 'available';
  await operator.waitUntil(runs, QUICK_SECONDS);
  await operator.waitUntil(isFree, QUICK_SECONDS);
  await operator.call('ec2', 'AttachVolume', { VolumeId: volumeId, InstanceId: instanceId, Device: '/dev/sdf' });
  await operator.call('ec2', 'AssignPrivateIpAddresses', {
    NetworkInterfaceId: (await operator.instance(instanceId)).NetworkInterfaces[0].NetworkInterfaceId,
    PrivateIpAddresses: [floatingAddress(lost)],
    AllowReassignment: true,
  });
}

/** A Spot instance like the one that was there; its id. It attaches nothing by itself: its user data waits for the volume. */
async function launchLike(operator: Operator, lost: Shape, volumeId: string): Promise<string> {
  const tag = (key: string): string => lost.Tags.find(({ Key }: Shape) => Key === key).Value;
  const template = {
    LaunchTemplateId: tag('aws:ec2launchtemplate:id'),
    Version: tag('aws:ec2launchtemplate:version'),
  };
  const { LaunchTemplateVersions } = await operator.call('ec2', 'DescribeLaunchTemplateVersions', {
    LaunchTemplateId: template.LaunchTemplateId,
    Versions: [template.Version],
  });
  const script = decodeUserData(LaunchTemplateVersions[0].LaunchTemplateData.UserData);
  const image = await operator.parameter('host/image');
  const instanceTypes = (await operator.parameter('host/instance-types')).split(',');
  const variables = { KEEPER_IMAGE: image, KEEPER_VOLUME_ID: volumeId, KEEPER_FORMAT_BLANK: 'false' };
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'\n`);
  const userData = script.replace('\n', () => `\n${lines.join('')}`);
  const { Instances } = await operator.call('ec2', 'CreateFleet', {
    Type: 'instant',
    LaunchTemplateConfigs: [
      {
        LaunchTemplateSpecification: {
          ...template,
          LaunchTemplateSpecificationUserData: Buffer.from(userData).toString('base64'),
        },
        Overrides: instanceTypes.map((InstanceType: string) => ({ InstanceType, SubnetId: lost.SubnetId })),
      },
    ],
    TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'spot' },
    SpotOptions: { AllocationStrategy: 'price-capacity-optimized' },
  });
  return Instances[0].InstanceIds[0];
}

function floatingAddress(instance: Shape): string {
  const { PrivateIpAddresses } = instance.NetworkInterfaces[0];
  return PrivateIpAddresses.find(({ Primary }: Shape) => !Primary).PrivateIpAddress;
}
