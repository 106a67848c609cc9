import {
  DeleteSnapshotCommand,
  DeleteVolumeCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  type EC2Client,
  type Tag,
} from '@aws-sdk/client-ec2';
import { DATABASE_TAG, EXPIRES_AT_TAG, PRE_CHANGE_ROLE, ROLE_TAG, SUPERSEDED_ROLE } from '../core/tags.ts';
import { expired, type Kept } from '../core/upkeep.ts';
import { logger } from '../shared/logger.ts';

/**
 * Removes what was kept for a while and whose time has passed: snapshots from before a change, and volumes that others have
 * replaced. What bears no date that can be read stays until a person looks.
 *
 * @param liveVolumeId never removed, whatever its tags say
 * @param now milliseconds since the epoch
 */
export async function removeExpired(
  ec2: EC2Client,
  database: string,
  liveVolumeId: string,
  now: number,
): Promise<void> {
  const [snapshots, volumes] = await Promise.all([keptSnapshots(ec2, database), supersededVolumes(ec2, database)]);
  for (const { id } of expired(snapshots, now).expired) {
    await ec2.send(new DeleteSnapshotCommand({ SnapshotId: id }));
    logger.info('removed an expired snapshot', { database, id });
  }
  for (const { id } of expired(volumes, now).expired) {
    if (id === liveVolumeId) continue;
    await ec2.send(new DeleteVolumeCommand({ VolumeId: id }));
    logger.info('removed an expired volume', { database, id });
  }
  const undated = expired([...snapshots, ...volumes], now).undated.map(({ id }) => id);
  if (undated.length > 0)
    logger.warn(`${EXPIRES_AT_TAG} is missing or no date; kept until it is one`, { database, undated });
}

async function keptSnapshots(ec2: EC2Client, database: string): Promise<Kept[]> {
  const { Snapshots = [] } = await ec2.send(
    new DescribeSnapshotsCommand({ OwnerIds: ['self'], Filters: tagged(database, PRE_CHANGE_ROLE) }),
  );
  return Snapshots.map(({ SnapshotId = '', Tags }) => kept(SnapshotId, Tags));
}

/** Those that nothing is attached to. */
async function supersededVolumes(ec2: EC2Client, database: string): Promise<Kept[]> {
  const { Volumes = [] } = await ec2.send(
    new DescribeVolumesCommand({
      Filters: [...tagged(database, SUPERSEDED_ROLE), { Name: 'status', Values: ['available'] }],
    }),
  );
  return Volumes.map(({ VolumeId = '', Tags }) => kept(VolumeId, Tags));
}

function tagged(database: string, role: string) {
  return [
    { Name: `tag:${DATABASE_TAG}`, Values: [database] },
    { Name: `tag:${ROLE_TAG}`, Values: [role] },
  ];
}

function kept(id: string, tags: readonly Tag[] = []): Kept {
  const expiresAt = tags.find(({ Key }) => Key === EXPIRES_AT_TAG)?.Value;
  return { id, ...(expiresAt !== undefined && { expiresAt }) };
}
