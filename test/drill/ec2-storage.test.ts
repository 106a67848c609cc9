import { describe, expect, it } from 'vitest';
import { Ec2Fixture } from './ec2-fixture.ts';

const DEVICE = '/dev/sdf';

async function withVolumeAttached() {
  const fixture = await Ec2Fixture.create();
  const launched = await fixture.launch();
  await fixture.call('AttachVolume', { InstanceId: launched.id, VolumeId: fixture.volume, Device: DEVICE });
  await fixture.clock.pass(10_000);
  return { fixture, ...launched };
}

describe('AttachVolume', () => {
  it('takes a moment, then the guest sees the device', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    const answer = await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: DEVICE });
    expect(answer).toMatchObject({ State: 'attaching', InstanceId: id, Device: DEVICE });
    expect(host.devices).toEqual(new Set());
    await fixture.clock.pass(10_000);
    expect(host.devices).toEqual(new Set([fixture.volume]));
    expect(await fixture.describeVolume()).toMatchObject({
      State: 'in-use',
      Attachments: [{ State: 'attached', InstanceId: id, DeleteOnTermination: false }],
    });
    expect((await fixture.describe(id)).BlockDeviceMappings).toContainEqual({
      DeviceName: DEVICE,
      Ebs: expect.objectContaining({ VolumeId: fixture.volume, Status: 'attached' }),
    });
    expect(fixture.happened('volume-attachment', fixture.volume, 'state')).toEqual(['attaching', 'attached']);
  });

  it('attaches to one instance only: the fence', async () => {
    const { fixture } = await withVolumeAttached();
    const { id } = await fixture.launch();
    const input = { InstanceId: id, VolumeId: fixture.volume, Device: DEVICE };
    expect(await fixture.errorOf('AttachVolume', input)).toBe('VolumeInUse');
  });

  it('refuses a pending instance, another zone, a device in use, and what does not exist', async () => {
    const fixture = await Ec2Fixture.create({ onLatency: (name, ms) => (name === 'ec2.describeLag' ? 0 : ms) });
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet());
    const id = Instances[0].InstanceIds[0];
    const attach = (VolumeId: string, Device = DEVICE) =>
      fixture.errorOf('AttachVolume', { InstanceId: id, VolumeId, Device });
    expect(await attach(fixture.volume)).toBe('IncorrectState');
    await fixture.clock.pass(60_000);
    const elsewhere = await fixture.call('CreateVolume', { AvailabilityZone: 'us-east-1b', Size: 1 });
    expect(await attach(elsewhere.VolumeId)).toBe('IncorrectState');
    await fixture.clock.pass(10_000);
    expect(await attach(elsewhere.VolumeId)).toBe('InvalidVolume.ZoneMismatch');
    expect(await attach(fixture.volume, '/dev/xvda')).toBe('InvalidParameterValue');
    expect(await attach('vol-0123456789abcdef0')).toBe('InvalidVolume.NotFound');
  });
});

describe('DetachVolume', () => {
  it('frees the volume once the guest has let go', async () => {
    const { fixture, host } = await withVolumeAttached();
    expect((await fixture.call('DetachVolume', { VolumeId: fixture.volume })).State).toBe('detaching');
    await fixture.clock.pass(10_000);
    expect(host.devices).toEqual(new Set());
    expect(await fixture.describeVolume()).toMatchObject({ State: 'available', Attachments: [] });
    expect(fixture.happened('volume-attachment', fixture.volume, 'state')).toEqual([
      'attaching',
      'attached',
      'detaching',
      'detached',
    ]);
  });

  it('stays busy for as long as the guest uses the device, however often it is asked', async () => {
    const { fixture, host } = await withVolumeAttached();
    host.busy = true;
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(600_000);
    expect((await fixture.describeVolume()).Attachments[0].State).toBe('busy');
    expect((await fixture.call('DetachVolume', { VolumeId: fixture.volume })).State).toBe('busy');
    host.busy = false;
    await fixture.clock.pass(10_000);
    expect((await fixture.describeVolume()).State).toBe('available');
    expect(host.told.filter((what) => what === 'detach')).toHaveLength(1);
  });

  it('refuses a volume that is not attached, and one that is attached elsewhere', async () => {
    const { fixture } = await withVolumeAttached();
    const { id } = await fixture.launch();
    const VolumeId = fixture.volume;
    expect(await fixture.errorOf('DetachVolume', { VolumeId, InstanceId: id })).toBe('InvalidAttachment.NotFound');
    await fixture.call('DetachVolume', { VolumeId });
    await fixture.clock.pass(10_000);
    expect(await fixture.errorOf('DetachVolume', { VolumeId })).toBe('IncorrectState');
  });

  it('takes the volume from a running guest with Force, and that is on record', async () => {
    const { fixture, id, host } = await withVolumeAttached();
    host.busy = true;
    await fixture.call('DetachVolume', { VolumeId: fixture.volume, Force: true });
    await fixture.clock.pass(10_000);
    expect((await fixture.describeVolume()).State).toBe('available');
    expect(fixture.happened('force-detach', fixture.volume, 'instanceId')).toEqual([id]);
  });

  it('holds the volume of an instance that shuts down until its guest has ended', async () => {
    const { fixture, id, host } = await withVolumeAttached();
    host.shutdown = async (how) => {
      await fixture.clock.sleep(100_000);
      host.told.push(`shutdown ${how}`);
    };
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(90_000);
    expect((await fixture.describeVolume()).State).toBe('in-use');
    await fixture.clock.pass(20_000);
    expect((await fixture.describeVolume()).State).toBe('available');
  });
});

describe('termination', () => {
  it('keeps a volume that was attached after launch and deletes the root volume', async () => {
    const { fixture, id } = await withVolumeAttached();
    const [root] = (await fixture.describe(id)).BlockDeviceMappings;
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    expect((await fixture.describeVolume()).State).toBe('available');
    expect(await fixture.errorOf('DescribeVolumes', { VolumeIds: [root.Ebs.VolumeId] })).toBe('InvalidVolume.NotFound');
    expect(fixture.runtime.told).not.toContain(`delete ${fixture.volume}`);
  });

  it('ends an attachment that was still on its way', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: DEVICE });
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    expect(host.told).not.toContain('attach');
    expect(fixture.happened('volume-attachment', fixture.volume, 'state')).toEqual(['attaching', 'detached']);
    expect((await fixture.describeVolume()).State).toBe('available');
  });
});

describe('volumes and snapshots', () => {
  it('are found by tag, attachment and status', async () => {
    const { fixture, id } = await withVolumeAttached();
    const found = async (Name: string, value: string) =>
      (await fixture.call('DescribeVolumes', { Filters: [{ Name, Values: [value] }] })).Volumes.length;
    expect(await found('tag:keeper:database', 'lighthouse')).toBe(1);
    expect(await found('attachment.instance-id', id)).toBe(2);
    expect(await found('status', 'available')).toBe(0);
  });

  it('cannot be deleted while attached', async () => {
    const { fixture } = await withVolumeAttached();
    expect(await fixture.errorOf('DeleteVolume', { VolumeId: fixture.volume })).toBe('VolumeInUse');
  });

  it('are snapshots found by tag and status', async () => {
    const { fixture } = await withVolumeAttached();
    const taken = async (role: string) => {
      const TagSpecifications = [{ ResourceType: 'snapshot', Tags: [{ Key: 'keeper:role', Value: role }] }];
      return (await fixture.call('CreateSnapshot', { VolumeId: fixture.volume, TagSpecifications })).SnapshotId;
    };
    const old = await taken('pre-change');
    await fixture.clock.pass(3_600_000);
    const recent = await taken('pre-change');
    const other = await taken('other');
    await fixture.clock.pass(2000);
    const found = async (...filters: [Name: string, value: string][]) => {
      const Filters = filters.map(([Name, value]) => ({ Name, Values: [value] }));
      const { Snapshots } = await fixture.call('DescribeSnapshots', { OwnerIds: ['self'], Filters });
      return Snapshots.map((snapshot: { SnapshotId: string }) => snapshot.SnapshotId);
    };
    expect(await found(['tag:keeper:role', 'pre-change'])).toEqual([old, recent]);
    expect(await found(['tag:keeper:role', 'pre-change'], ['status', 'completed'])).toEqual([old]);
    expect(await found(['status', 'pending'], ['volume-id', fixture.volume])).toEqual([recent, other]);
  });

  it('are not found while they are too new to be visible', async () => {
    const { fixture } = await withVolumeAttached();
    fixture.cloud.faults = { onLatency: (name, ms) => (name === 'ec2.describeLag' ? 5000 : ms) };
    const { SnapshotId } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
    const describe = () => fixture.errorOf('DescribeSnapshots', { SnapshotIds: [SnapshotId] });
    expect(await describe()).toBe('InvalidSnapshot.NotFound');
    await fixture.clock.pass(5000);
    expect(await describe()).toBe('none');
  });

  it('make a volume with the content of a snapshot', async () => {
    const { fixture } = await withVolumeAttached();
    const { SnapshotId, State } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
    expect(State).toBe('pending');
    expect(fixture.runtime.told).toContain(`snapshot ${SnapshotId} of ${fixture.volume}`);
    const request = { AvailabilityZone: 'us-east-1a', SnapshotId };
    expect(await fixture.errorOf('CreateVolume', request)).toBe('IncorrectState');
    await fixture.clock.pass(3_600_000);
    const clone = await fixture.call('CreateVolume', request);
    expect(clone).toMatchObject({ State: 'creating', Size: 20, Encrypted: true });
    expect(fixture.runtime.told).toContain(`create ${clone.VolumeId} from ${SnapshotId}`);
    const { Snapshots } = await fixture.call('DescribeSnapshots', { SnapshotIds: [SnapshotId] });
    expect(Snapshots[0]).toMatchObject({ State: 'completed', VolumeSize: 20 });
    await fixture.call('DeleteSnapshot', { SnapshotId });
    expect(await fixture.errorOf('DeleteSnapshot', { SnapshotId })).toBe('InvalidSnapshot.NotFound');
  });
});

describe('a snapshot that fails', () => {
  it('never gets complete, and no volume can be made of it', async () => {
    const { fixture } = await withVolumeAttached();
    const { SnapshotId } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
    fixture.ec2.failSnapshot(SnapshotId);
    await fixture.clock.pass(3_600_000);
    const { Snapshots } = await fixture.call('DescribeSnapshots', { SnapshotIds: [SnapshotId] });
    expect(Snapshots[0]).toMatchObject({ State: 'error', Progress: '0%', StateMessage: expect.any(String) });
    expect(fixture.ec2.snapshots()).toMatchObject([{ snapshotId: SnapshotId, state: 'error' }]);
    const request = { AvailabilityZone: 'us-east-1a', SnapshotId };
    expect(await fixture.errorOf('CreateVolume', request)).toBe('IncorrectState');
    expect(await fixture.errorOf('DeleteSnapshot', { SnapshotId })).toBe('none');
  });

  it('has not been completed before', async () => {
    const { fixture } = await withVolumeAttached();
    const { SnapshotId } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
    await fixture.clock.pass(3_600_000);
    expect(() => fixture.ec2.failSnapshot(SnapshotId)).toThrow(/is completed/);
  });
});

describe('AssignPrivateIpAddresses', () => {
  const ADDRESS = '10.0.0.200';

  async function withTwoHosts() {
    const fixture = await Ec2Fixture.create();
    const one = await fixture.launch();
    const two = await fixture.launch();
    const assign = (to: typeof one, AllowReassignment = true, address = ADDRESS) => ({
      NetworkInterfaceId: to.host.identity.interfaceId,
      PrivateIpAddresses: [address],
      AllowReassignment,
    });
    return { fixture, one, two, assign };
  }

  it('moves an address from host to host, a little later', async () => {
    const { fixture, one, two, assign } = await withTwoHosts();
    await fixture.call('AssignPrivateIpAddresses', assign(one));
    await fixture.clock.pass(10_000);
    expect(one.host.addresses).toEqual([one.host.identity.privateIp, ADDRESS]);
    const answer = await fixture.call('AssignPrivateIpAddresses', assign(two));
    expect(answer.AssignedPrivateIpAddresses).toEqual([{ PrivateIpAddress: ADDRESS }]);
    await fixture.clock.pass(10_000);
    expect(one.host.addresses).toEqual([one.host.identity.privateIp]);
    expect(two.host.addresses).toEqual([two.host.identity.privateIp, ADDRESS]);
    expect((await fixture.describe(two.id)).NetworkInterfaces[0].PrivateIpAddresses).toContainEqual({
      PrivateIpAddress: ADDRESS,
      Primary: false,
    });
    expect(fixture.ec2.holderOf(ADDRESS)).toBe(two.id);
    expect(fixture.happened('address', ADDRESS, 'state')).toEqual(['assigned', 'unassigned', 'assigned']);
  });

  it('reaches a host that is still pending', async () => {
    const fixture = await Ec2Fixture.create({
      onLatency: (name, ms) => (name === 'ec2.pendingToRunning' ? 20_000 : ms),
    });
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet());
    const host = fixture.runtime.hosts.get(Instances[0].InstanceIds[0]);
    await fixture.call('AssignPrivateIpAddresses', {
      NetworkInterfaceId: host?.identity.interfaceId,
      PrivateIpAddresses: [ADDRESS],
    });
    await fixture.clock.pass(10_000);
    expect(host?.addresses).toEqual([host?.identity.privateIp, ADDRESS]);
  });

  it('ends where the last request said, whichever remapping is slower', async () => {
    const { fixture, one, two, assign } = await withTwoHosts();
    let remapMs = 5000;
    fixture.cloud.faults = { onLatency: (name, ms) => (name === 'ec2.assignPrivateIp' ? remapMs : ms) };
    await fixture.call('AssignPrivateIpAddresses', assign(one));
    remapMs = 100;
    await fixture.call('AssignPrivateIpAddresses', assign(two));
    await fixture.clock.pass(10_000);
    expect(fixture.ec2.holderOf(ADDRESS)).toBe(two.id);
    expect(one.host.addresses).not.toContain(ADDRESS);
  });

  it('refuses a taken address without AllowReassignment, a primary one, and one outside the subnet', async () => {
    const { fixture, one, two, assign } = await withTwoHosts();
    await fixture.call('AssignPrivateIpAddresses', assign(one));
    const errorOf = (...args: Parameters<typeof assign>) =>
      fixture.errorOf('AssignPrivateIpAddresses', assign(...args));
    expect(await errorOf(two, false)).toBe('InvalidIPAddress.InUse');
    expect(await errorOf(two, true, one.host.identity.privateIp)).toBe('InvalidParameterValue');
    expect(await errorOf(two, true, '10.0.1.9')).toBe('InvalidParameterValue');
    expect(await errorOf(two, true, '10.0.0.3')).toBe('InvalidParameterValue');
  });

  it('knows how many addresses an instance type can have', async () => {
    const fixture = await Ec2Fixture.create();
    const { host } = await fixture.launch({ types: ['t4g.micro'] });
    const input = (...PrivateIpAddresses: string[]) => ({
      NetworkInterfaceId: host.identity.interfaceId,
      PrivateIpAddresses,
    });
    expect(await fixture.errorOf('AssignPrivateIpAddresses', input('10.0.0.200', '10.0.0.201'))).toBe(
      'PrivateIpAddressLimitExceeded',
    );
    expect(await fixture.errorOf('AssignPrivateIpAddresses', input('10.0.0.200'))).toBe('none');
  });

  it('finds the address free again after its host was terminated', async () => {
    const { fixture, one, two, assign } = await withTwoHosts();
    await fixture.call('AssignPrivateIpAddresses', assign(one));
    await fixture.clock.pass(10_000);
    await fixture.call('TerminateInstances', { InstanceIds: [one.id] });
    await fixture.clock.pass(120_000);
    expect(fixture.ec2.holderOf(ADDRESS)).toBeUndefined();
    expect(await fixture.errorOf('AssignPrivateIpAddresses', assign(two, false))).toBe('none');
    expect(await fixture.errorOf('AssignPrivateIpAddresses', assign(one))).toBe('InvalidNetworkInterfaceID.NotFound');
  });

  it('never hands a reserved address to a new instance by itself', async () => {
    const fixture = await Ec2Fixture.create();
    await fixture.resource('AWS::EC2::SubnetCidrReservation', {
      SubnetId: fixture.subnetA,
      Cidr: '10.0.0.128/25',
      ReservationType: 'explicit',
    });
    for (let i = 0; i < 10; i++) {
      const { host } = await fixture.launch();
      expect(Number(host.identity.privateIp.split('.')[3])).toBeLessThan(128);
    }
  });
});

describe('tags', () => {
  it('are added, replaced and removed', async () => {
    const fixture = await Ec2Fixture.create();
    const Resources = [fixture.volume];
    await fixture.call('CreateTags', { Resources, Tags: [{ Key: 'keeper:blank', Value: 'true' }] });
    await fixture.call('DeleteTags', { Resources, Tags: [{ Key: 'keeper:blank', Value: 'other' }] });
    await fixture.clock.pass(5000);
    expect((await fixture.describeVolume()).Tags).toContainEqual({ Key: 'keeper:blank', Value: 'true' });
    await fixture.call('DeleteTags', { Resources, Tags: [{ Key: 'keeper:blank' }] });
    await fixture.clock.pass(5000);
    expect((await fixture.describeVolume()).Tags).toEqual([{ Key: 'keeper:database', Value: 'lighthouse' }]);
    expect(await fixture.errorOf('CreateTags', { Resources, Tags: [{ Key: 'aws:mine', Value: '' }] })).toBe(
      'InvalidParameterValue',
    );
  });
});
