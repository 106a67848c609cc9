import type { Cloud, Shape } from '../kernel.ts';
import {
  type Attachment,
  type Instance,
  type Modification,
  type NetworkInterface,
  type Snapshot,
  STATE_CODES,
  type Volume,
} from './records.ts';
import { renderTags } from './tags.ts';

/** Resources as Describe calls show them. */
export const render = {
  instance: renderInstance,
  volume: renderVolume,
  modification: renderModification,
  snapshot: renderSnapshot,
};

const hostName = (prefix: string, address: string, domain: string) =>
  `${prefix}-${address.replaceAll('.', '-')}.${domain}`;

function renderInstance(instance: Instance, cloud: Cloud): Shape {
  const { networkInterface, template } = instance;
  return {
    InstanceId: instance.id,
    ImageId: instance.image.imageId,
    InstanceType: instance.type,
    InstanceLifecycle: instance.lifecycle === 'spot' ? 'spot' : undefined,
    SpotInstanceRequestId: instance.spotRequestId,
    ClientToken: instance.clientToken,
    AmiLaunchIndex: instance.amiLaunchIndex,
    LaunchTime: instance.launchTime,
    State: { Code: STATE_CODES[instance.state], Name: instance.state },
    StateTransitionReason: instance.transitionReason,
    StateReason: instance.stateReason,
    Placement: { AvailabilityZone: instance.identity.zone, GroupName: '', Tenancy: 'default' },
    Architecture: instance.image.architecture,
    RootDeviceType: 'ebs',
    RootDeviceName: instance.image.rootDeviceName,
    BlockDeviceMappings: [...instance.volumes].flatMap((volume) => renderMapping(volume)),
    EbsOptimized: template.ebsOptimized,
    KeyName: template.keyName,
    IamInstanceProfile: { Arn: instance.profile.arn },
    Monitoring: { State: template.monitoring ? 'enabled' : 'disabled' },
    MetadataOptions: { State: 'applied', HttpTokens: 'required', HttpEndpoint: 'enabled', ...template.metadataOptions },
    NetworkInterfaces: networkInterface ? [renderInterface(networkInterface, cloud)] : [],
    SecurityGroups: (networkInterface?.securityGroups ?? []).map((GroupId) => ({ GroupId })),
    PrivateIpAddress: networkInterface?.primary,
    PrivateDnsName: networkInterface ? hostName('ip', networkInterface.primary, 'ec2.internal') : '',
    PublicIpAddress: networkInterface?.publicIp,
    SubnetId: networkInterface?.subnet.id,
    VpcId: networkInterface?.subnet.vpcId,
    Tags: renderTags(instance.tags),
  };
}

function renderMapping(volume: Volume): Shape[] {
  const { attachment } = volume;
  if (!attachment) return [];
  return [
    {
      DeviceName: attachment.device,
      Ebs: {
        VolumeId: volume.id,
        AttachTime: attachment.attachTime,
        DeleteOnTermination: attachment.deleteOnTermination,
        // An instance's view of an attachment has no `busy`.
        Status: attachment.state === 'busy' ? 'detaching' : attachment.state,
      },
    },
  ];
}

function renderInterface(networkInterface: NetworkInterface, cloud: Cloud): Shape {
  const { publicIp } = networkInterface;
  const association = publicIp && {
    IpOwnerId: 'amazon',
    PublicIp: publicIp,
    PublicDnsName: hostName('ec2', publicIp, 'compute-1.amazonaws.com'),
  };
  const address = (text: string, primary: boolean) => ({
    Primary: primary,
    PrivateIpAddress: text,
    ...(primary && association ? { Association: association } : {}),
  });
  return {
    NetworkInterfaceId: networkInterface.id,
    InterfaceType: 'interface',
    Status: 'in-use',
    OwnerId: cloud.account,
    MacAddress: networkInterface.macAddress,
    SubnetId: networkInterface.subnet.id,
    VpcId: networkInterface.subnet.vpcId,
    Groups: networkInterface.securityGroups.map((GroupId) => ({ GroupId })),
    Attachment: {
      AttachmentId: networkInterface.attachmentId,
      AttachTime: networkInterface.attachTime,
      DeleteOnTermination: true,
      DeviceIndex: 0,
      Status: 'attached',
    },
    PrivateIpAddress: networkInterface.primary,
    PrivateIpAddresses: [
      address(networkInterface.primary, true),
      ...networkInterface.secondary.map((text) => address(text, false)),
    ],
    ...(association ? { Association: association } : {}),
  };
}

function renderVolume(volume: Volume): Shape | undefined {
  if (volume.state === 'deleted') return undefined;
  return {
    VolumeId: volume.id,
    AvailabilityZone: volume.zone,
    CreateTime: volume.createTime,
    Encrypted: volume.encrypted,
    Size: volume.sizeGiB,
    SnapshotId: volume.snapshotId ?? '',
    State: volume.state,
    VolumeType: volume.type,
    Iops: volume.iops,
    Throughput: volume.throughput,
    MultiAttachEnabled: false,
    Attachments: volume.attachment ? [renderAttachment(volume, volume.attachment)] : [],
    Tags: renderTags(volume.tags),
  };
}

/** VolumeAttachment, as AttachVolume, DetachVolume and DescribeVolumes show it. */
export function renderAttachment(volume: Volume, attachment: Attachment): Shape {
  return {
    VolumeId: volume.id,
    InstanceId: attachment.instance.id,
    Device: attachment.device,
    State: attachment.state,
    AttachTime: attachment.attachTime,
    DeleteOnTermination: attachment.deleteOnTermination,
  };
}

function renderModification({ volumeId, original, target, state, progress, startTime, endTime }: Modification): Shape {
  return {
    VolumeId: volumeId,
    ModificationState: state,
    Progress: progress,
    StartTime: startTime,
    EndTime: endTime,
    OriginalSize: original.sizeGiB,
    OriginalIops: original.iops,
    OriginalThroughput: original.throughput,
    OriginalVolumeType: 'gp3',
    OriginalMultiAttachEnabled: false,
    TargetSize: target.sizeGiB,
    TargetIops: target.iops,
    TargetThroughput: target.throughput,
    TargetVolumeType: 'gp3',
    TargetMultiAttachEnabled: false,
  };
}

/** inferred: AWS documents the field (ModifySnapshot, StateMessage), and none of its texts but those about KMS keys */
const SNAPSHOT_FAILED = 'Snapshot creation failed';

function renderSnapshot(snapshot: Snapshot, cloud: Cloud): Shape {
  return {
    SnapshotId: snapshot.id,
    VolumeId: snapshot.volumeId,
    VolumeSize: snapshot.sizeGiB,
    Encrypted: snapshot.encrypted,
    OwnerId: cloud.account,
    StartTime: snapshot.startTime,
    State: snapshot.state,
    StateMessage: snapshot.state === 'error' ? SNAPSHOT_FAILED : undefined,
    Progress: snapshot.state === 'completed' ? '100%' : '0%',
    Description: snapshot.description,
    StorageTier: 'standard',
    Tags: renderTags(snapshot.tags),
  };
}
