import { VirtualClock } from '../../drill/cloud/clock.ts';
import { Ec2 } from '../../drill/cloud/ec2/ec2.ts';
import { type AwsEvent, Cloud, type Faults, type Shape } from '../../drill/cloud/kernel.ts';
import type { GuestVolume, Host, HostIdentity, HostRuntime, RunResult } from '../../drill/hosts/host.ts';

/** A host that remembers what it was told, and does not let go of volumes while it is busy. */
export class RecordingHost implements Host {
  readonly identity: HostIdentity;
  readonly told: string[] = [];
  readonly devices = new Set<string>();
  addresses: readonly string[] = [];
  busy = false;

  constructor(identity: HostIdentity) {
    this.identity = identity;
  }
  boot(userData: string): void {
    this.told.push(`boot ${userData}`);
  }
  async attach(volume: GuestVolume): Promise<void> {
    this.told.push('attach');
    this.devices.add(volume.volumeId);
  }
  async detach(volumeId: string): Promise<'detached' | 'busy'> {
    if (this.busy) return 'busy';
    this.told.push('detach');
    this.devices.delete(volumeId);
    return 'detached';
  }
  async setAddresses(addresses: readonly string[]): Promise<void> {
    this.addresses = addresses;
  }
  async run(): Promise<RunResult> {
    throw new Error('nothing runs commands here');
  }
  async shutdown(how: 'os' | 'hard'): Promise<void> {
    this.told.push(`shutdown ${how}`);
    this.devices.clear();
  }
}

/** Hosts by instance id, and what became of volumes and snapshots. */
export class RecordingRuntime implements HostRuntime {
  readonly hosts = new Map<string, RecordingHost>();
  readonly told: string[] = [];

  async createHost(identity: HostIdentity): Promise<Host> {
    const host = new RecordingHost(identity);
    this.hosts.set(identity.instanceId, host);
    return host;
  }
  async createVolume(volume: GuestVolume, fromSnapshotId?: string): Promise<void> {
    this.told.push(`create ${volume.volumeId}${fromSnapshotId ? ` from ${fromSnapshotId}` : ''}`);
  }
  async resizeVolume(volumeId: string, sizeGiB: number): Promise<void> {
    this.told.push(`resize ${volumeId} to ${sizeGiB}`);
  }
  async deleteVolume(volumeId: string): Promise<void> {
    this.told.push(`delete ${volumeId}`);
  }
  async createSnapshot(snapshotId: string, volumeId: string): Promise<void> {
    this.told.push(`snapshot ${snapshotId} of ${volumeId}`);
  }
  async deleteSnapshot(snapshotId: string): Promise<void> {
    this.told.push(`delete ${snapshotId}`);
  }
  async close(): Promise<void> {}
}

export const ROLE = 'arn:aws:iam::123456789012:role/host';
export const ARM_IMAGE = 'ami-0aaaaaaaaaaaaaaaa';
export const X86_IMAGE = 'ami-0bbbbbbbbbbbbbbbb';

const base64 = (text: string) => Buffer.from(text).toString('base64');

/** EC2 with one VPC, two subnets in two zones, one launch template and one data volume in the first zone. */
export class Ec2Fixture {
  readonly clock = new VirtualClock();
  readonly cloud: Cloud;
  readonly runtime = new RecordingRuntime();
  readonly ec2: Ec2;
  readonly events: AwsEvent[] = [];
  subnetA = '';
  subnetB = '';
  template = '';
  volume = '';

  constructor(faults: Faults = {}) {
    this.cloud = new Cloud({ clock: this.clock, seed: 7, faults });
    this.ec2 = new Ec2(this.cloud, this.runtime);
    this.ec2.resolveInstanceProfile = () => ROLE;
    this.ec2.registerImage({ imageId: ARM_IMAGE, architecture: 'arm64', rootDeviceName: '/dev/xvda', rootGiB: 8 });
    this.ec2.registerImage({ imageId: X86_IMAGE, architecture: 'x86_64', rootDeviceName: '/dev/xvda', rootGiB: 8 });
    this.cloud.register(this.ec2);
    this.cloud.onEvent((event) => this.events.push(event));
  }

  static async create(faults: Faults = {}): Promise<Ec2Fixture> {
    const fixture = new Ec2Fixture(faults);
    fixture.cloud.latencyScale = 0;
    const vpc = await fixture.resource('AWS::EC2::VPC', { CidrBlock: '10.0.0.0/16' });
    const subnet = (CidrBlock: string, AvailabilityZone: string) =>
      fixture.resource('AWS::EC2::Subnet', { VpcId: vpc, CidrBlock, AvailabilityZone });
    fixture.subnetA = await subnet('10.0.0.0/24', 'us-east-1a');
    fixture.subnetB = await subnet('10.0.1.0/24', 'us-east-1b');
    fixture.template = await fixture.launchTemplate({});
    fixture.volume = await fixture.resource('AWS::EC2::Volume', {
      AvailabilityZone: 'us-east-1a',
      Size: 20,
      VolumeType: 'gp3',
      Encrypted: true,
      Tags: [{ Key: 'keeper:database', Value: 'lighthouse' }],
    });
    await fixture.clock.pass(10);
    fixture.cloud.latencyScale = 1;
    return fixture;
  }

  /** Makes a CloudFormation resource and returns its `Ref`. */
  async resource(type: string, properties: Shape): Promise<string> {
    const handler = this.ec2.handlers[type];
    if (!handler) throw new Error(`no handler for ${type}`);
    const stack = { stackName: 'test', physicalName: (id: string) => `test-${id}`, assetPath: undefined };
    return (await this.clock.run(Promise.resolve(handler.create('Resource', properties, stack)))).ref;
  }

  /** @param data differences from the usual launch template data */
  launchTemplate(data: Shape): Promise<string> {
    return this.resource('AWS::EC2::LaunchTemplate', {
      LaunchTemplateData: {
        ImageId: ARM_IMAGE,
        IamInstanceProfile: { Arn: 'arn:aws:iam::123456789012:instance-profile/host' },
        UserData: base64('#!/bin/sh\necho template'),
        NetworkInterfaces: [{ DeviceIndex: 0, Groups: ['sg-0123456789abcdef0'], AssociatePublicIpAddress: true }],
        TagSpecifications: [
          { ResourceType: 'network-interface', Tags: [{ Key: 'keeper:database', Value: 'lighthouse' }] },
          { ResourceType: 'instance', Tags: [{ Key: 'keeper:role', Value: 'host' }] },
        ],
        ...data,
      },
    });
  }

  call(operation: string, input: Shape): Promise<Shape> {
    return this.clock.run(this.start(operation, input));
  }

  /** Sends a request without letting time pass. */
  start(operation: string, input: Shape): Promise<Shape> {
    const caller = { roleArn: 'arn:aws:iam::123456789012:role/keeper', session: 'test' };
    return this.cloud.call({ service: 'ec2', operation, input, caller });
  }

  /** The code of the error that a request ends in, or `none`. */
  async errorOf(operation: string, input: Shape): Promise<string> {
    return this.call(operation, input).then(
      () => 'none',
      (error: Error) => error.name,
    );
  }

  /** A CreateFleet request for one Spot host in the first zone. */
  fleet(changes: Shape = {}): Shape {
    const { types = ['t4g.small'], template = this.template, userData, lifecycle = 'spot', ...rest } = changes;
    return {
      Type: 'instant',
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: template,
            Version: '$Latest',
            ...(userData === undefined ? {} : { LaunchTemplateSpecificationUserData: base64(userData) }),
          },
          Overrides: types.map((InstanceType: string, Priority: number) => ({
            InstanceType,
            SubnetId: this.subnetA,
            Priority,
          })),
        },
      ],
      TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: lifecycle },
      ...rest,
    };
  }

  /** A host that has run its user data. */
  async launch(changes: Shape = {}): Promise<{ readonly id: string; readonly host: RecordingHost }> {
    const { Instances } = await this.call('CreateFleet', this.fleet(changes));
    const id: string = Instances[0].InstanceIds[0];
    await this.clock.pass(60_000);
    const host = this.runtime.hosts.get(id);
    if (!host) throw new Error('there is no host');
    return { id, host };
  }

  async describe(id: string): Promise<Shape> {
    return (await this.call('DescribeInstances', { InstanceIds: [id] })).Reservations[0].Instances[0];
  }

  async describeVolume(id = this.volume): Promise<Shape> {
    return (await this.call('DescribeVolumes', { VolumeIds: [id] })).Volumes[0];
  }

  /** A happening's detail member, in order. */
  happened(kind: string, subject: string, member: string): unknown[] {
    return this.cloud.happenings
      .filter((happening) => happening.kind === kind && happening.subject === subject)
      .map((happening) => happening.detail[member]);
  }
}
