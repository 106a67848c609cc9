import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import { snapshotNotCompleted, snapshotNotFound } from './errors.ts';
import type { Snapshot } from './records.ts';

/** A data volume that an instance is launched with: a copy of a snapshot. */
export interface LaunchVolume {
  /** e.g. `/dev/sdf` */
  readonly device: string;
  readonly snapshotId: string;
  /** Undefined when there is none of this id: then nothing can be launched with it. */
  readonly snapshot: Snapshot | undefined;
  /** At least that of the snapshot. */
  readonly sizeGiB: number;
  readonly type: string;
  readonly encrypted: boolean;
  readonly deleteOnTermination: boolean;
}

/**
 * @param mappings FleetBlockDeviceMappingRequest[], which override or add devices of the launch template
 * @param snapshots those that exist, by id
 * @throws NotModelled for what is not a gp3 volume from a snapshot
 */
export function parseLaunchVolumes(mappings: Shape, snapshots: ReadonlyMap<string, Snapshot>): readonly LaunchVolume[] {
  const volumes: LaunchVolume[] = (mappings ?? []).map((mapping: Shape) => parseMapping(mapping, snapshots));
  if (new Set(volumes.map(({ device }) => device)).size < volumes.length)
    throw new NotModelled('BlockDeviceMappings: the same device twice');
  return volumes;
}

function parseMapping(mapping: Shape, snapshots: ReadonlyMap<string, Snapshot>): LaunchVolume {
  onlyKnown('BlockDeviceMappings', mapping, ['DeviceName', 'Ebs']);
  const { DeviceName: device, Ebs: ebs } = mapping;
  onlyKnown('BlockDeviceMappings.Ebs', ebs, [
    'DeleteOnTermination',
    'Encrypted',
    'SnapshotId',
    'VolumeSize',
    'VolumeType',
  ]);
  if (!device) throw new NotModelled('BlockDeviceMappings: a volume without DeviceName');
  if (!ebs?.SnapshotId) throw new NotModelled(`BlockDeviceMappings: ${device} is not made from a snapshot`);
  const snapshot = snapshots.get(ebs.SnapshotId);
  if (snapshot?.encrypted && ebs.Encrypted === false)
    throw new NotModelled(`BlockDeviceMappings: ${device} unencrypted, from an encrypted snapshot`);
  return {
    device,
    snapshotId: ebs.SnapshotId,
    snapshot,
    sizeGiB: ebs.VolumeSize ?? snapshot?.sizeGiB ?? 0,
    // docs: RunInstances, BlockDeviceMapping: without a word the type is gp2.
    type: ebs.VolumeType ?? 'gp2',
    encrypted: snapshot?.encrypted || (ebs.Encrypted ?? false),
    deleteOnTermination: ebs.DeleteOnTermination ?? true,
  };
}

/**
 * What a launch with this volume is refused for. The codes and texts are those of RunInstances (InvalidBlockDeviceMapping)
 * and CreateVolume (the others); that a fleet reports them in its answer, for each pool, is inferred.
 * @throws AwsError
 */
export function refuseLaunchVolume({ snapshotId, snapshot, sizeGiB }: LaunchVolume): void {
  if (!snapshot) throw snapshotNotFound(snapshotId);
  if (snapshot.state !== 'completed') throw snapshotNotCompleted(snapshotId);
  if (sizeGiB < snapshot.sizeGiB)
    throw new AwsError(
      'InvalidBlockDeviceMapping',
      `Volume of size ${sizeGiB}GB is smaller than snapshot '${snapshotId}', expect size >= ${snapshot.sizeGiB}GB`,
    );
}
