import { describe, expect, it } from 'vitest';
import type { Shape } from '../../drill/cloud/kernel.ts';
import { Ec2Fixture } from './ec2-fixture.ts';

const DEVICE = '/dev/sdf';
const MISSING = 'snap-0123456789abcdef0';
const TAGS = [{ Key: 'keeper:role', Value: 'scratch' }];

/** EC2 with a completed snapshot of the encrypted data volume, of 20 GiB. */
async function withSnapshot() {
  const fixture = await Ec2Fixture.create();
  const { SnapshotId } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
  await fixture.clock.pass(3_600_000);
  /** A request for a host with a volume from the snapshot; `ebs` says what is different about it. */
  const request = (ebs: Shape = {}, mapping: Shape = {}, changes: Shape = {}): Shape => {
    const fleet = fixture.fleet({ TagSpecifications: [{ ResourceType: 'volume', Tags: TAGS }], ...changes });
    fleet.LaunchTemplateConfigs[0].Overrides[0].BlockDeviceMappings = [
      { DeviceName: DEVICE, Ebs: { SnapshotId, VolumeType: 'gp3', ...ebs }, ...mapping },
    ];
    return fleet;
  };
  return { fixture, snapshot: SnapshotId as string, request };
}

/** The same, with the host running. */
async function withClone(ebs: Shape = {}) {
  const world = await withSnapshot();
  const { fixture, request } = world;
  const { Instances } = await fixture.call('CreateFleet', request(ebs));
  const id: string = Instances[0].InstanceIds[0];
  const clone = fixture.ec2.volumes().find(({ attachment }) => attachment?.instanceId === id);
  const host = fixture.runtime.hosts.get(id);
  if (!clone || !host) throw new Error('there is no clone, or no host');
  return { ...world, id, clone: clone.volumeId, host };
}

describe('a fleet with a volume from a snapshot', () => {
  it('gives the guest its device before its user data runs', async () => {
    const { fixture, snapshot, id, clone, host } = await withClone();
    await fixture.clock.pass(60_000);
    expect(host.told.map((what) => what.split(' ')[0])).toEqual(['attach', 'boot']);
    expect(host.devices).toEqual(new Set([clone]));
    expect(fixture.runtime.told).toContain(`create ${clone} from ${snapshot}`);
    expect(fixture.happened('volume-attachment', clone, 'state')).toEqual(['attaching', 'attached']);
    expect(await fixture.describeVolume(clone)).toMatchObject({
      State: 'in-use',
      Size: 20,
      Encrypted: true,
      SnapshotId: snapshot,
      Attachments: [{ State: 'attached', InstanceId: id, Device: DEVICE, DeleteOnTermination: true }],
    });
  });

  it('has it attached when the instance is first called running', async () => {
    const { fixture, id, clone } = await withClone();
    const { happenings } = fixture.cloud;
    await fixture.clock.pass(60_000);
    const when = (subject: string, state: string) =>
      happenings.findIndex((one) => one.subject === subject && one.detail['state'] === state);
    expect(when(clone, 'attached')).toBeLessThan(when(id, 'running'));
  });

  it('tags it as the request says, as the root volume', async () => {
    const { fixture, id } = await withClone();
    await fixture.clock.pass(5_000);
    const { Volumes } = await fixture.call('DescribeVolumes', {
      Filters: [{ Name: 'attachment.instance-id', Values: [id] }],
    });
    expect(Volumes.map(({ Tags }: Shape) => Tags)).toEqual([TAGS, TAGS]);
  });

  it('deletes it with the instance, and its content, after the guest has ended', async () => {
    const { fixture, id, clone, host } = await withClone();
    await fixture.clock.pass(60_000);
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    expect(fixture.runtime.told).not.toContain(`delete ${clone}`);
    await fixture.clock.pass(120_000);
    expect(host.told.at(-1)).toBe('shutdown os');
    expect(fixture.runtime.told).toContain(`delete ${clone}`);
    expect(await fixture.errorOf('DescribeVolumes', { VolumeIds: [clone] })).toBe('InvalidVolume.NotFound');
    expect((await fixture.describeVolume()).State).toBe('available');
  });

  it('deletes it also when the instance never ran', async () => {
    const { fixture, id, clone } = await withClone();
    fixture.cloud.faults = { onLatency: (name, ms) => (name === 'ec2.describeLag' ? 0 : ms) };
    await fixture.clock.pass(1_000);
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    expect(fixture.runtime.told).toContain(`delete ${clone}`);
    expect(fixture.ec2.volumes().map(({ volumeId }) => volumeId)).toEqual([fixture.volume]);
  });

  it('keeps it when the request says so', async () => {
    const { fixture, id, clone } = await withClone({ DeleteOnTermination: false });
    await fixture.clock.pass(60_000);
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    expect((await fixture.describeVolume(clone)).State).toBe('available');
  });

  it('can make it larger, and finds it again after a stop', async () => {
    const { fixture, request } = await withSnapshot();
    const larger = request({ VolumeSize: 30, Encrypted: true }, {}, { lifecycle: 'on-demand' });
    const id = (await fixture.call('CreateFleet', larger)).Instances[0].InstanceIds[0];
    await fixture.clock.pass(60_000);
    const [device] = [...(fixture.runtime.hosts.get(id)?.devices ?? [])];
    expect((await fixture.describeVolume(device)).Size).toBe(30);
    await fixture.call('StopInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    await fixture.call('StartInstances', { InstanceIds: [id] });
    await fixture.clock.pass(60_000);
    expect([...(fixture.runtime.hosts.get(id)?.devices ?? [])]).toEqual([device]);
  });
});

describe('a guest that powers itself off', () => {
  const powerOff = async (data: Shape) => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch({ template: await fixture.launchTemplate(data) });
    return { fixture, id, host, off: () => fixture.cloud.record('guest', id, { state: 'off' }) };
  };

  it('ends its instance where the launch template says so', async () => {
    const { fixture, id, host, off } = await powerOff({ InstanceInitiatedShutdownBehavior: 'terminate' });
    off();
    expect(fixture.ec2.machine(id)?.state).toBe('shutting-down');
    await fixture.clock.pass(120_000);
    expect((await fixture.describe(id)).StateReason.Code).toBe('Client.InstanceInitiatedShutdown');
    expect(host.told.at(-1)).toBe('shutdown os');
  });

  it('is not modelled where its instance would stop', async () => {
    const { off } = await powerOff({});
    expect(off).toThrow('powered off');
  });
});

describe('a volume that cannot be made', () => {
  async function refusal(fixture: Ec2Fixture, request: Shape): Promise<string[]> {
    const { Instances, Errors } = await fixture.call('CreateFleet', request);
    expect(Instances).toEqual([]);
    expect(fixture.ec2.machines()).toEqual([]);
    return Errors.map(({ ErrorCode, LaunchTemplateAndOverrides }: Shape) => {
      return `${LaunchTemplateAndOverrides.Overrides.InstanceType} ${ErrorCode}`;
    });
  }

  it('refuses each pool, and launches nothing', async () => {
    const { fixture, request } = await withSnapshot();
    expect(await refusal(fixture, request({ SnapshotId: MISSING }))).toEqual(['t4g.small InvalidSnapshot.NotFound']);
    expect(await refusal(fixture, request({ VolumeSize: 19 }))).toEqual(['t4g.small InvalidBlockDeviceMapping']);
    const pending = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
    expect(await refusal(fixture, request({ SnapshotId: pending.SnapshotId }))).toEqual(['t4g.small IncorrectState']);
    fixture.ec2.failSnapshot(pending.SnapshotId);
    expect(await refusal(fixture, request({ SnapshotId: pending.SnapshotId }))).toEqual(['t4g.small IncorrectState']);
  });

  it('leaves the other pools alone', async () => {
    const { fixture, request } = await withSnapshot();
    const two = request({ SnapshotId: MISSING }, {}, { types: ['t4g.small', 't4g.medium'] });
    const { Instances, Errors } = await fixture.call('CreateFleet', two);
    expect(Instances[0].InstanceType).toBe('t4g.medium');
    expect(Errors).toMatchObject([{ ErrorCode: 'InvalidSnapshot.NotFound' }]);
  });

  it.each([
    ['without a snapshot', { SnapshotId: undefined, VolumeSize: 8 }, {}],
    ['of another type', { VolumeType: 'io2' }, {}],
    ['of the default type, which is gp2', { VolumeType: undefined }, {}],
    ['with a speed of its own', { Iops: 4000 }, {}],
    ['unencrypted, from an encrypted snapshot', { Encrypted: false }, {}],
    ['of the instance store', {}, { VirtualName: 'ephemeral0' }],
    ['in the place of the root volume', {}, { DeviceName: '/dev/xvda' }],
    ['without a device', {}, { DeviceName: undefined }],
  ])('is not modelled %s', async (_, ebs, mapping) => {
    const { fixture, request } = await withSnapshot();
    expect(await fixture.errorOf('CreateFleet', request(ebs, mapping))).toBe('NotModelled');
  });
});
