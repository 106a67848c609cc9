import type { Host, HostIdentity } from '../../hosts/host.ts';
import type { Architecture } from './instance-types.ts';
import type { LaunchTemplateData } from './launch-template.ts';
import type { Subnet } from './subnet.ts';
import type { View } from './view.ts';

export type Tags = Map<string, string>;
export type Lifecycle = 'spot' | 'on-demand';

/** What is true now. What Describe calls see of it is in `view`. */
export interface Instance {
  readonly id: string;
  readonly reservationId: string;
  identity: HostIdentity;
  /** Of the latest start. */
  launchTime: Date;
  readonly amiLaunchIndex: number;
  type: string;
  readonly lifecycle: Lifecycle;
  readonly spotRequestId: string | undefined;
  readonly clientToken: string;
  readonly image: Image;
  readonly profile: InstanceProfile;
  readonly template: LaunchTemplateData;
  /** base64 */
  readonly userData: string | undefined;
  readonly tags: Tags;
  readonly view: View;
  state: InstanceState;
  transitionReason: string;
  stateReason: { readonly Code: string; readonly Message: string } | undefined;
  /** Undefined once it is terminated. */
  networkInterface: NetworkInterface | undefined;
  readonly volumes: Set<Volume>;
  /** Settles when the machine exists; it may not run yet. */
  created: Promise<void>;
  /** Undefined before it exists and after it has ended. */
  host: Host | undefined;
  /** Settles when the guest has ended; undefined while nobody has ended it. */
  guestEnd: Promise<void> | undefined;
  /** What is true of its machine and its guest while EC2 calls it running. */
  health: Health;
  /** What EC2 has found out about that. */
  checks: { readonly system: Check; readonly guest: Check };
  /** Requests to the guest that have not been answered. */
  readonly inFlight: Set<Promise<unknown>>;
  terminatedAt: number | undefined;
}

export type InstanceState = 'pending' | 'running' | 'shutting-down' | 'terminated' | 'stopping' | 'stopped';

/** `hung`: the guest answers nobody. `dead`: the hardware has failed, and the guest with it. */
export type Health = 'sound' | 'hung' | 'dead';

export interface Check {
  status: 'initializing' | 'ok' | 'impaired';
  impairedSince?: Date;
}

/** docs: InstanceState, "The low byte represents the state" */
export const STATE_CODES: Readonly<Record<InstanceState, number>> = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
};

export interface InstanceProfile {
  readonly arn: string;
  readonly roleArn: string;
}

export interface Image {
  readonly imageId: string;
  readonly architecture: Architecture;
  /** e.g. `/dev/xvda` */
  readonly rootDeviceName: string;
  readonly rootGiB: number;
}

export interface NetworkInterface {
  readonly id: string;
  readonly attachmentId: string;
  readonly macAddress: string;
  readonly subnet: Subnet;
  readonly securityGroups: readonly string[];
  readonly instanceId: string;
  readonly attachTime: Date;
  readonly primary: string;
  /** What the network delivers; an assignment appears here once the remapping has happened. */
  secondary: string[];
  /** The public address of the primary one, where it has one. A stopped instance has none, and gets another one. */
  publicIp: string | undefined;
  readonly tags: Tags;
}

export interface Volume {
  readonly id: string;
  readonly zone: string;
  readonly createTime: Date;
  readonly encrypted: boolean;
  readonly snapshotId: string | undefined;
  readonly tags: Tags;
  readonly view: View;
  sizeGiB: number;
  type: string;
  iops: number;
  throughput: number;
  /** The oldest first; only the latest one is described. */
  readonly modifications: Modification[];
  /** What Describe calls see of the latest one. */
  readonly modificationView: View;
  state: 'creating' | 'available' | 'in-use' | 'deleting' | 'deleted';
  attachment: Attachment | undefined;
}

/** What ModifyVolume can change of a gp3 volume. */
export interface VolumeAttributes {
  readonly sizeGiB: number;
  readonly iops: number;
  readonly throughput: number;
}

export interface Modification {
  readonly volumeId: string;
  readonly original: VolumeAttributes;
  readonly target: VolumeAttributes;
  readonly startTime: Date;
  state: 'modifying' | 'optimizing' | 'completed';
  /** Percent. */
  progress: number;
  endTime: Date | undefined;
}

export interface Attachment {
  readonly instance: Instance;
  readonly device: string;
  readonly attachTime: Date;
  readonly deleteOnTermination: boolean;
  /** The root volume is part of the machine: the host runtime has no device for it. */
  readonly root: boolean;
  state: 'attaching' | 'attached' | 'detaching' | 'busy';
}

export interface LaunchTemplate {
  readonly id: string;
  readonly name: string;
  readonly createTime: Date;
  readonly tags: Tags;
  /** Version 1 first. */
  readonly versions: {
    readonly data: LaunchTemplateData;
    readonly description: string | undefined;
    createTime: Date;
  }[];
}

export interface Snapshot {
  readonly id: string;
  readonly volumeId: string;
  readonly sizeGiB: number;
  readonly encrypted: boolean;
  readonly startTime: Date;
  readonly description: string;
  readonly tags: Tags;
  readonly view: View;
  state: SnapshotState;
}

export type SnapshotState = 'pending' | 'completed' | 'error';

/** A VPC, route table, gateway, security group …: something that has an id, tags, and the properties it was made with. */
export interface NetworkResource {
  readonly id: string;
  readonly kind: string;
  readonly tags: Tags;
}
