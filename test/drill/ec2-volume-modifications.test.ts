import { describe, expect, it } from 'vitest';
import { NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import { Ec2Fixture } from './ec2-fixture.ts';

const SECONDS: Readonly<Record<string, number>> = {
  'ec2.volumeModifying': 5,
  'ec2.volumeOptimizing': 600,
  'ec2.describeLag': 0,
};

async function withVolume() {
  const fixture = await Ec2Fixture.create({
    onLatency: (name, ms) => (SECONDS[name] === undefined ? ms : SECONDS[name] * 1000),
  });
  const VolumeId = fixture.volume;
  const modify = (changes: Shape) => fixture.call('ModifyVolume', { VolumeId, ...changes });
  const errorOf = (changes: Shape) => fixture.errorOf('ModifyVolume', { VolumeId, ...changes });
  const latest = async (): Promise<Shape> =>
    (await fixture.call('DescribeVolumesModifications', { VolumeIds: [VolumeId] })).VolumesModifications[0];
  return { fixture, VolumeId, modify, errorOf, latest };
}

describe('ModifyVolume', () => {
  it('goes from modifying to optimizing, when the size can be used, to completed', async () => {
    const { fixture, VolumeId, modify, latest } = await withVolume();
    const { VolumeModification } = await modify({ Size: 50 });
    expect(VolumeModification).toMatchObject({
      VolumeId,
      ModificationState: 'modifying',
      Progress: 0,
      OriginalSize: 20,
      TargetSize: 50,
      OriginalVolumeType: 'gp3',
      TargetVolumeType: 'gp3',
      TargetIops: 3000,
      TargetThroughput: 125,
    });
    expect((await fixture.describeVolume()).Size).toBe(20);
    expect(fixture.runtime.told).not.toContain(`resize ${VolumeId} to 50`);

    await fixture.clock.pass(6000);
    expect(await latest()).toMatchObject({ ModificationState: 'optimizing', Progress: 0 });
    expect((await fixture.describeVolume()).Size).toBe(50);
    expect(fixture.runtime.told).toContain(`resize ${VolumeId} to 50`);

    await fixture.clock.pass(310_000);
    expect(await latest()).toMatchObject({ ModificationState: 'optimizing', Progress: 50 });
    await fixture.clock.pass(300_000);
    const done = await latest();
    expect(done).toMatchObject({ ModificationState: 'completed', Progress: 100, OriginalSize: 20, TargetSize: 50 });
    expect(done.EndTime - done.StartTime).toBe(605_000);
    expect(fixture.happened('volume-modification', VolumeId, 'state')).toEqual([
      'modifying',
      'optimizing',
      'optimizing',
      'optimizing',
      'optimizing',
      'completed',
    ]);
  });

  it('works on a volume in use', async () => {
    const { fixture, VolumeId, modify } = await withVolume();
    const { id } = await fixture.launch();
    await fixture.call('AttachVolume', { InstanceId: id, VolumeId, Device: '/dev/sdf' });
    await fixture.clock.pass(10_000);
    await modify({ Size: 21 });
    await fixture.clock.pass(10_000);
    expect(await fixture.describeVolume()).toMatchObject({ Size: 21, State: 'in-use' });
  });

  it('changes performance without touching the size', async () => {
    const { fixture, VolumeId, modify, errorOf } = await withVolume();
    expect(await errorOf({ Iops: 100 })).toBe('InvalidParameterValue');
    expect(await errorOf({ Throughput: 2001 })).toBe('InvalidParameterValue');
    await modify({ Iops: 4000, Throughput: 250 });
    await fixture.clock.pass(10_000);
    expect(await fixture.describeVolume()).toMatchObject({ Size: 20, Iops: 4000, Throughput: 250 });
    expect(fixture.runtime.told).not.toContain(`resize ${VolumeId} to 20`);
  });

  it('never shrinks a volume, and knows how large one can be', async () => {
    const { VolumeId, fixture, errorOf } = await withVolume();
    await expect(fixture.call('ModifyVolume', { VolumeId, Size: 19 })).rejects.toMatchObject({
      code: 'InvalidParameterValue',
      message: 'New size cannot be smaller than existing size',
    });
    expect(await errorOf({ Size: 65_537 })).toBe('InvalidParameterValue');
    expect(await fixture.errorOf('ModifyVolume', { VolumeId: 'vol-0123456789abcdef0', Size: 30 })).toBe(
      'InvalidVolume.NotFound',
    );
  });

  it('waits for the one before to be completed', async () => {
    const { fixture, VolumeId, modify, errorOf } = await withVolume();
    await modify({ Size: 30 });
    await expect(fixture.call('ModifyVolume', { VolumeId, Size: 40 })).rejects.toMatchObject({
      code: 'IncorrectModificationState',
      message: `Volume ${VolumeId} cannot be modified in modification state MODIFYING`,
    });
    await fixture.clock.pass(60_000);
    expect(await errorOf({ Size: 40 })).toBe('IncorrectModificationState');
    await fixture.clock.pass(600_000);
    expect(await errorOf({ Size: 40 })).toBe('none');
  });

  it('is possible four times in a rolling day, and one that changes nothing counts', async () => {
    const { fixture, modify, errorOf, latest } = await withVolume();
    for (const Size of [20, 21, 22, 23]) {
      await modify({ Size });
      await fixture.clock.pass(3_600_000);
    }
    expect(await errorOf({ Size: 24 })).toBe('VolumeModificationRateExceeded');
    expect(await latest()).toMatchObject({ TargetSize: 23 });
    await fixture.clock.pass(20 * 3_600_000);
    expect(await errorOf({ Size: 24 })).toBe('none');
    await fixture.clock.pass(900_000);
    expect(await errorOf({ Size: 25 })).toBe('VolumeModificationRateExceeded');
  });

  it('keeps a volume from being attached until its size has changed', async () => {
    const { fixture, VolumeId, modify } = await withVolume();
    const { id } = await fixture.launch();
    const attach = { InstanceId: id, VolumeId, Device: '/dev/sdf' };
    await modify({ Size: 30 });
    await expect(fixture.call('AttachVolume', attach)).rejects.toMatchObject({
      code: 'OperationNotPermitted',
      message: `Cannot attach volume ${VolumeId} when it is in modification state: MODIFYING`,
    });
    await fixture.clock.pass(10_000);
    expect(await fixture.errorOf('AttachVolume', attach)).toBe('none');
  });

  it('refuses what the model does not honour', async () => {
    const { modify } = await withVolume();
    await expect(modify({ VolumeType: 'io2' })).rejects.toThrow(NotModelled);
    await expect(modify({ MultiAttachEnabled: true })).rejects.toThrow(NotModelled);
    await expect(modify({})).rejects.toThrow(NotModelled);
  });
});

describe('DescribeVolumesModifications', () => {
  it('does not know a volume that was never modified', async () => {
    const { fixture, VolumeId } = await withVolume();
    expect(await fixture.errorOf('DescribeVolumesModifications', { VolumeIds: [VolumeId] })).toBe(
      'InvalidVolumeModification.NotFound',
    );
    expect((await fixture.call('DescribeVolumesModifications', {})).VolumesModifications).toEqual([]);
  });

  it('shows a modification a moment after it has begun', async () => {
    const { fixture, VolumeId, modify } = await withVolume();
    fixture.cloud.faults = { onLatency: (name, ms) => (name === 'ec2.describeLag' ? 2000 : ms) };
    await modify({ Size: 30 });
    const input = { VolumeIds: [VolumeId] };
    expect(await fixture.errorOf('DescribeVolumesModifications', input)).toBe('InvalidVolumeModification.NotFound');
    await fixture.clock.pass(2000);
    expect(await fixture.errorOf('DescribeVolumesModifications', input)).toBe('none');
  });

  it('filters by volume and state, and pages', async () => {
    const { fixture, VolumeId, modify } = await withVolume();
    const other = await fixture.call('CreateVolume', { AvailabilityZone: 'us-east-1a', Size: 1 });
    await fixture.clock.pass(10_000);
    await modify({ Size: 30 });
    await fixture.clock.pass(10_000);
    await fixture.call('ModifyVolume', { VolumeId: other.VolumeId, Size: 2 });
    const found = async (input: Shape) => {
      const { VolumesModifications, NextToken } = await fixture.call('DescribeVolumesModifications', input);
      return { ids: VolumesModifications.map((one: Shape) => one.VolumeId), NextToken };
    };
    const filter = (Name: string, ...Values: string[]) => ({ Filters: [{ Name, Values }] });
    expect((await found(filter('modification-state', 'optimizing', 'completed'))).ids).toEqual([VolumeId]);
    expect((await found(filter('volume-id', other.VolumeId))).ids).toEqual([other.VolumeId]);
    const first = await found({ MaxResults: 1 });
    const second = await found({ MaxResults: 1, NextToken: first.NextToken });
    expect([...first.ids, ...second.ids]).toEqual([VolumeId, other.VolumeId]);
    expect(second.NextToken).toBeUndefined();
  });
});
