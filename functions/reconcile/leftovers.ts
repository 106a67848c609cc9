import {
  DeleteSnapshotCommand,
  DeleteVolumeCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  type EC2Client,
  paginateDescribeInstances,
  type Tag,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  BACKUP_ROLE,
  DATABASE_TAG,
  EXECUTION_TAG,
  EXPIRES_AT_TAG,
  PRE_CHANGE_ROLE,
  PROVEN_AT_TAG,
  ROLE_TAG,
  SCRATCH_ROLE,
  SUPERSEDED_ROLE,
} from '../core/tags.ts';
import { abandoned, type Backup, expired, indispensable, type Kept, type ScratchHost } from '../core/upkeep.ts';
import { logger } from '../shared/logger.ts';
import { tag } from '../shared/tag.ts';

/**
 * Removes what was kept for a while and whose time has passed: backups, snapshots from before a change, and volumes that
 * others have replaced; but never the newest backup, nor the newest proven one; and scratch hosts whose verification is over. What bears no date that can be read stays
 * until a person looks. What AWS does not let go of is named in the log, and tried again the next time.
 *
 * @param liveVolumeId never removed, whatever its tags say
 * @param runningVerifications their names; asked for only while there are scratch hosts
 * @param now milliseconds since the epoch
 * @throws when EC2 does not tell what there is
 */
export async function removeExpired(
  ec2: EC2Client,
  database: string,
  liveVolumeId: string,
  runningVerifications: () => Promise<readonly string[]>,
  now: number,
): Promise<void> {
  const [snapshots, volumes, hosts] = await Promise.all([
    keptSnapshots(ec2, database),
    supersededVolumes(ec2, database),
    scratchHosts(ec2, database),
  ]);
  const spared = indispensable(snapshots.flatMap(({ backup }) => (backup ? [backup] : [])));
  for (const { id } of expired(snapshots, now).expired.filter((each) => !spared.has(each.id)))
    await remove('an expired snapshot', database, id, () => ec2.send(new DeleteSnapshotCommand({ SnapshotId: id })));
  for (const { id } of expired(volumes, now).expired) {
    if (id === liveVolumeId) continue;
    await remove('an expired volume', database, id, () => ec2.send(new DeleteVolumeCommand({ VolumeId: id })));
  }
  const running = hosts.length > 0 ? await runningVerifications() : [];
  for (const { id } of abandoned(hosts, running, now))
    await remove('a scratch host', database, id, () => ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] })));
  const undated = expired([...snapshots, ...volumes], now).undated.map(({ id }) => id);
  if (undated.length > 0)
    logger.warn(`${EXPIRES_AT_TAG} is missing or no date; kept until it is one`, { database, undated });
}

/** One that cannot be removed (an image is made from it, it is locked, somebody has attached it) must not keep the others. */
async function remove(what: string, database: string, id: string, call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
    logger.info(`removed ${what}`, { database, id });
  } catch (error) {
    logger.warn(`cannot remove ${what}`, { database, id, reason: String(error) });
  }
}

async function keptSnapshots(ec2: EC2Client, database: string): Promise<(Kept & { readonly backup?: Backup })[]> {
  const { Snapshots = [] } = await ec2.send(
    new DescribeSnapshotsCommand({ OwnerIds: ['self'], Filters: tagged(database, PRE_CHANGE_ROLE, BACKUP_ROLE) }),
  );
  return Snapshots.map(({ SnapshotId: id = '', Tags, StartTime, State }) => ({
    ...kept(id, Tags),
    ...(tag(Tags, ROLE_TAG) === BACKUP_ROLE && {
      backup: {
        id,
        takenAt: StartTime?.getTime() ?? 0,
        completed: State === 'completed',
        proven: tag(Tags, PROVEN_AT_TAG) !== undefined,
      },
    }),
  }));
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

/** Those that have not begun to end. */
async function scratchHosts(ec2: EC2Client, database: string): Promise<ScratchHost[]> {
  const hosts: ScratchHost[] = [];
  const alive = { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] };
  const pages = paginateDescribeInstances({ client: ec2 }, { Filters: [...tagged(database, SCRATCH_ROLE), alive] });
  for await (const { Reservations = [] } of pages) {
    for (const { InstanceId: id = '', LaunchTime, Tags } of Reservations.flatMap(({ Instances = [] }) => Instances)) {
      // One that EC2 names no launch time of is young.
      const launchedAt = LaunchTime?.getTime() ?? Number.POSITIVE_INFINITY;
      hosts.push({ id, execution: tag(Tags, EXECUTION_TAG) ?? '', launchedAt });
    }
  }
  return hosts;
}

function tagged(database: string, ...roles: string[]) {
  return [
    { Name: `tag:${DATABASE_TAG}`, Values: [database] },
    { Name: `tag:${ROLE_TAG}`, Values: roles },
  ];
}

function kept(id: string, tags: Tag[] | undefined): Kept {
  const expiresAt = tag(tags, EXPIRES_AT_TAG);
  return { id, ...(expiresAt !== undefined && { expiresAt }) };
}
