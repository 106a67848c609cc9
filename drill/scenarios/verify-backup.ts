import { CENSUS_TAG, PROVEN_AT_TAG, ROLE_TAG, SCRATCH_ROLE } from '../../functions/core/tags.ts';
import type { StoredObject } from '../cloud/s3.ts';
import { CLIENT_TABLE } from '../examination.ts';
import type { AcknowledgedRow } from '../ledger/ledger.ts';
import type { Stage } from '../stage.ts';
import { noticed } from './observation.ts';
import { asPerson } from './person.ts';
import type { Scenario, Scene } from './scenario.ts';

/** How long EC2 may take to end the scratch host after the proof. */
const END_MS = 120_000;
const POLL_MS = 500;

const REQUEST = {
  name: 'verify-backup',
  what: 'a person asks for a backup, which is restored and verified on a host of its own',
  beginning: 'the request',
  work: 'backup',
  workflow: 'backup',
  // The census, two polls of a minute each, and at worst two minutes for the snapshot.
  limitSeconds: 900,
  hastened: { latency: 'ec2.snapshot', factor: 0.1 },
  sabotages: ['damaged-backup'],
} as const;

/** The snapshot is damaged: the verification has to fail, and to name what it found. */
const damaged: Scenario = {
  ...REQUEST,
  end: 'FAILED',
  outcome: 'The damage was found',
  async begin(scene) {
    await requestBackup(scene);
    return async ({ error, cause = '', gaps }) => {
      const { stage } = scene;
      const [backup] = backupsOf(stage);
      return [
        ...(error === 'NotProven' ? [] : [`the backup failed as ${error}: ${cause}`]),
        ...(cause.includes(CLIENT_TABLE) ? [] : [`the failure does not name ${CLIENT_TABLE}: ${cause}`]),
        ...(backup?.tags.has(PROVEN_AT_TAG) ? [`${backup.snapshotId} is damaged and tagged as proven`] : []),
        ...wrongEvidence(evidenceOf(stage, backup?.snapshotId), false),
        ...(await remains(stage)),
        ...noticed(gaps),
      ];
    };
  },
};

/** A person starts a backup, which is proven while clients write, and to the row. */
export const verifyBackup: Scenario = {
  ...REQUEST,
  spoiled: { 'damaged-backup': damaged },
  outcome: 'The backup is proven',
  async begin(scene) {
    const { stage } = scene;
    const moments = watchSnapshots(stage);
    await requestBackup(scene);
    return async ({ gaps, rows }) => {
      const [backup, ...others] = backupsOf(stage);
      if (!backup) return ['there is no snapshot'];
      const { snapshotId, tags } = backup;
      return [
        ...others.map((other) => `${other.snapshotId} is a second snapshot`),
        ...[CENSUS_TAG, PROVEN_AT_TAG].filter((tag) => !tags.get(tag)).map((tag) => `${snapshotId} has no tag ${tag}`),
        ...wrongEvidence(evidenceOf(stage, snapshotId), true),
        ...(await remains(stage)),
        ...noticed(gaps),
        ...wrongRows(rows, await stage.rowsIn(snapshotId), moments),
      ];
    };
  },
};

async function requestBackup({ stage, watcher }: Scene): Promise<void> {
  watcher.say('a person starts keeper-backup with {}');
  const stateMachineArn = stage.local.cloud.arn('states', 'stateMachine:keeper-backup');
  await asPerson(stage, 'states', 'StartExecution', { stateMachineArn, name: 'drill', input: '{}' });
}

function backupsOf({ local }: Stage) {
  return local.ec2.snapshots().filter(({ tags }) => tags.has(CENSUS_TAG));
}

function evidenceOf({ local, database }: Stage, snapshotId: string | undefined): StoredObject | undefined {
  return local.s3.objects.find(({ key }) => key === `evidence/${database}/${snapshotId}.json`);
}

function wrongEvidence(evidence: StoredObject | undefined, ok: boolean): string[] {
  if (!evidence) return ['there is no evidence in S3'];
  return JSON.parse(evidence.body).proof.ok === ok ? [] : [`the evidence says ok: ${!ok}`];
}

/** What has not ended in time of what the verification launched. */
async function remains({ local, clock }: Stage): Promise<string[]> {
  const scratchHosts = local.ec2.machines().filter(({ tags }) => tags.get(ROLE_TAG) === SCRATCH_ROLE);
  if (scratchHosts.length === 0) return ['no scratch host was launched'];
  const ids = scratchHosts.map(({ identity }) => identity.instanceId);
  const left = () => [
    ...scratchHosts
      .filter(({ state }) => state !== 'terminated')
      .map(({ identity, state }) => `the scratch host ${identity.instanceId} is ${state}`),
    ...local.ec2
      .volumes()
      .filter(
        ({ tags, attachment }) => tags.get(ROLE_TAG) === SCRATCH_ROLE || ids.includes(attachment?.instanceId ?? ''),
      )
      .map(({ volumeId, state }) => `the clone ${volumeId} is ${state}`),
  ];
  for (const end = clock.now() + END_MS; left().length > 0 && clock.now() < end; ) await clock.sleep(POLL_MS);
  return left();
}

/** Milliseconds since the epoch: when the request for the snapshot was on its way, and when its content had been taken. */
interface Moments {
  askedAt: number;
  takenAt: number;
}

function watchSnapshots({ local }: Stage): Moments {
  const moments = { askedAt: Number.NaN, takenAt: Number.NaN };
  local.cloud.onHappening(({ kind, subject, at, detail }) => {
    if (kind === 'call' && subject === 'ec2:CreateSnapshot') moments.askedAt = at;
    if (kind === 'snapshot' && detail['state'] === 'pending') moments.takenAt = at;
  });
  return moments;
}

/** A row that was acknowledged before has to be in the snapshot, and one that was sent afterwards cannot be. */
function wrongRows(rows: readonly AcknowledgedRow[], inside: ReadonlySet<number>, moments: Moments): string[] {
  const { askedAt, takenAt } = moments;
  const before = rows.filter(({ acknowledgedAt }) => acknowledgedAt < askedAt);
  const missing = before.filter(({ number }) => !inside.has(number));
  const tooLate = rows.filter(({ number, sentAt }) => sentAt > takenAt && inside.has(number));
  return [
    ...(before.length > 0 ? [] : ['no row was acknowledged before the snapshot was asked for']),
    ...(missing.length === 0
      ? []
      : [`${missing.length} of ${before.length} rows that were acknowledged before the snapshot are not in it`]),
    ...(tooLate.length === 0 ? [] : [`${tooLate.length} rows that were sent after the snapshot are in it`]),
  ];
}
