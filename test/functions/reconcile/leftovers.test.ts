import { EC2Client } from '@aws-sdk/client-ec2';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { removeExpired } from '../../../functions/reconcile/leftovers.ts';
import { logger } from '../../../functions/shared/logger.ts';
import { NOW } from '../core/build.ts';

const HOUR = 3_600_000;
const TAGS = [{ Key: 'keeper:expires-at', Value: '2026-01-05T11:59:00Z' }];

interface Call {
  readonly command: string;
  readonly input: object;
}

/** EC2 with such answers to its readers; what it refuses to remove is an error's name by the resource's id. */
class Account {
  readonly calls: Call[] = [];
  readonly ec2 = new EC2Client({ region: 'us-east-1' });

  constructor(answers: Readonly<Record<string, object>>, refused: Readonly<Record<string, string>> = {}) {
    const answer = (command: string, input: object): object => {
      this.calls.push({ command, input });
      const id = Object.values(input).flat()[0];
      const name = refused[String(id)];
      if (name) throw Object.assign(new Error(`${id} stays`), { name });
      return answers[command] ?? {};
    };
    this.ec2.middlewareStack.add(
      (_, { commandName = '' }) =>
        async ({ input }) => ({ output: { $metadata: {}, ...answer(commandName, input) }, response: {} }),
      { step: 'initialize' },
    );
  }

  get removals(): Call[] {
    return this.calls.filter(({ command }) => !command.startsWith('Describe'));
  }

  filtersOf(command: string): object {
    const { input = {} } = this.calls.find((call) => call.command === command) ?? {};
    const filters = 'Filters' in input ? (input.Filters as { Name: string; Values: string[] }[]) : [];
    return Object.fromEntries(filters.map(({ Name, Values }) => [Name, Values]));
  }
}

const everything = {
  DescribeSnapshotsCommand: {
    Snapshots: ['snap-1', 'snap-2'].map((SnapshotId) => ({ SnapshotId, Tags: TAGS })),
  },
  DescribeVolumesCommand: {
    Volumes: ['vol-live', 'vol-1', 'vol-2'].map((VolumeId) => ({ VolumeId, Tags: TAGS })),
  },
  DescribeInstancesCommand: {
    Reservations: [
      { Instances: [{ InstanceId: 'i-1', LaunchTime: new Date(NOW - 25 * HOUR) }] },
      {
        Instances: [
          { InstanceId: 'i-2', LaunchTime: new Date(NOW - 25 * HOUR) },
          { InstanceId: 'i-young', LaunchTime: new Date(NOW - 60_000) },
          {
            InstanceId: 'i-running',
            LaunchTime: new Date(NOW - 3 * HOUR),
            Tags: [{ Key: 'keeper:execution', Value: 'running' }],
          },
          { InstanceId: 'i-unknown' },
        ],
      },
    ],
  },
};

const removals = [
  { command: 'DeleteSnapshotCommand', input: { SnapshotId: 'snap-1' } },
  { command: 'DeleteSnapshotCommand', input: { SnapshotId: 'snap-2' } },
  { command: 'DeleteVolumeCommand', input: { VolumeId: 'vol-1' } },
  { command: 'DeleteVolumeCommand', input: { VolumeId: 'vol-2' } },
  { command: 'TerminateInstancesCommand', input: { InstanceIds: ['i-1'] } },
  { command: 'TerminateInstancesCommand', input: { InstanceIds: ['i-2'] } },
];

function mute() {
  vi.spyOn(logger, 'info').mockImplementation(() => undefined);
  return vi.spyOn(logger, 'warn').mockImplementation(() => undefined);
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('what has had its time', () => {
  it('is removed, except for the live volume', async () => {
    const warn = mute();
    const account = new Account(everything);
    await removeExpired(account.ec2, 'lighthouse', 'vol-live', async () => ['running'], NOW);
    expect(account.removals).toEqual(removals);
    expect(warn).not.toHaveBeenCalled();
  });

  it('is looked for by the tags that Keeper gave it', async () => {
    mute();
    const account = new Account({});
    await removeExpired(account.ec2, 'lighthouse', 'vol-live', async () => ['running'], NOW);
    const database = { 'tag:keeper:database': ['lighthouse'] };
    expect(account.filtersOf('DescribeSnapshotsCommand')).toEqual({
      ...database,
      'tag:keeper:role': ['pre-change', 'backup'],
    });
    expect(account.filtersOf('DescribeVolumesCommand')).toEqual({
      ...database,
      'tag:keeper:role': ['superseded'],
      status: ['available'],
    });
    expect(account.filtersOf('DescribeInstancesCommand')).toEqual({
      ...database,
      'tag:keeper:role': ['scratch'],
      'instance-state-name': ['pending', 'running', 'stopping', 'stopped'],
    });
  });

  it('is removed although AWS does not let go of something else, which is named', async () => {
    const warn = mute();
    const account = new Account(everything, {
      'snap-1': 'InvalidSnapshot.InUse',
      'vol-1': 'VolumeInUse',
      'i-1': 'OperationNotPermitted',
    });
    await removeExpired(account.ec2, 'lighthouse', 'vol-live', async () => ['running'], NOW);
    expect(account.removals).toEqual(removals);
    const database = 'lighthouse';
    expect(warn.mock.calls).toEqual([
      ['cannot remove an expired snapshot', { database, id: 'snap-1', reason: 'InvalidSnapshot.InUse: snap-1 stays' }],
      ['cannot remove an expired volume', { database, id: 'vol-1', reason: 'VolumeInUse: vol-1 stays' }],
      ['cannot remove a scratch host', { database, id: 'i-1', reason: 'OperationNotPermitted: i-1 stays' }],
    ]);
  });

  it('stays when its date cannot be read, and is named', async () => {
    const warn = mute();
    const account = new Account({ DescribeSnapshotsCommand: { Snapshots: [{ SnapshotId: 'snap-1' }] } });
    await removeExpired(account.ec2, 'lighthouse', 'vol-live', async () => ['running'], NOW);
    expect(account.removals).toEqual([]);
    expect(warn.mock.calls).toEqual([
      [
        'keeper:expires-at is missing or no date; kept until it is one',
        { database: 'lighthouse', undated: ['snap-1'] },
      ],
    ]);
  });
});
