import type { Happening } from '../cloud/kernel.ts';
import { type DrillReport, round, stepsSince } from '../report.ts';
import { type Sabotage, sabotage } from '../sabotage.ts';
import type { Stage } from '../stage.ts';
import { floorWithin, partsOf } from '../story.ts';

export interface ScenarioOptions {
  readonly seed: number;
  readonly engine: DrillReport['engine'];
  readonly rate: number;
  readonly sabotage?: Sabotage;
  readonly watcher: Watcher;
  /** Aborted when the drill is to end early. */
  readonly signal: AbortSignal;
}

/** Who looks on while it happens. */
export interface Watcher {
  say(line: string): void;
  /** The notice was given. */
  countdown(from: number, seconds: number): void;
  committed(acknowledged: number, at: number): void;
  happening(happening: Happening): void;
}

const NOTICE_SECONDS = 120;
/** Writing before the notice and after the relocation, so that the gap has two sides. */
const QUIET_MS = 3_000;
/** After which a drill is called failed: the notice, and twice as long again. */
const LIMIT_MS = 360_000;
/** A pause beside the relocation's own that is no checkpoint's hiccup any more. */
const PAUSE_MS = 1_000;

/** AWS takes the Spot host of a database into which a client writes all the while. */
export async function spotInterruption(stage: Stage, options: ScenarioOptions): Promise<DrillReport> {
  const { local, clock, watch } = stage;
  const { cloud, ec2, states } = local;
  const { watcher, signal } = options;
  cloud.onHappening((happening) => watcher.happening(happening));
  const source = watch.liveVolume()?.attachment?.instanceId ?? '';
  watcher.say(
    `${stage.database} serves on ${source}; a client writes ${options.rate} rows a second through its address`,
  );
  const writer = await stage.connect(options.rate);
  writer.onProgress(({ acknowledged, lastAcknowledgedAt }) => watcher.committed(acknowledged, lastAcknowledgedAt));
  await clock.sleep(QUIET_MS);

  const reasons: string[] = [];
  const begun = states.executions.length;
  const noticed = clock.now();
  watcher.countdown(noticed, NOTICE_SECONDS);
  ec2.interrupt(source, { noticeSeconds: NOTICE_SECONDS });
  if (options.sabotage) sabotage(options.sabotage, stage, source);

  const relocation = () => states.executions.slice(begun).find(({ machine }) => machine.name.endsWith('-relocate'));
  while (
    !signal.aborted &&
    !cloud.failure &&
    clock.now() - noticed < LIMIT_MS &&
    (relocation()?.status ?? 'RUNNING') === 'RUNNING'
  ) {
    await clock.sleep(100);
  }
  const ended = clock.now();
  if (signal.aborted) reasons.push('it was interrupted');
  else if (!relocation()) reasons.push('the notice started no relocation');
  else if (relocation()?.status === 'RUNNING') reasons.push(`the relocation has not ended within ${LIMIT_MS / 1000} s`);
  else if (relocation()?.status !== 'SUCCEEDED')
    reasons.push(`the relocation ended as ${relocation()?.status}: ${relocation()?.error}: ${relocation()?.cause}`);
  if (cloud.failure) reasons.push(`the local cloud itself failed: ${cloud.failure.message}`);
  if (!signal.aborted) await clock.sleep(QUIET_MS);

  const account = await writer.stop().catch((error: Error) => {
    reasons.push(`the client cannot read back what it wrote: ${error.message}`);
    return { acknowledged: 0, lost: 0, gaps: [] };
  });
  watch.conclude();
  const since = cloud.happenings.filter(({ at }) => at >= noticed);
  const parts = partsOf(since);
  const gaps = [...account.gaps].sort((a, b) => b.to - b.from - (a.to - a.from));
  const outage = gaps[0] ?? { from: noticed, to: noticed };
  for (const { from, to } of gaps.slice(1)) {
    if (to - from > PAUSE_MS)
      reasons.push(
        `the client could not commit for ${round((to - from) / 1000)} s at t+${round((from - noticed) / 1000)} s, beside the move`,
      );
  }
  if (account.acknowledged === 0) reasons.push('no row was acknowledged');
  if (account.lost > 0) reasons.push(`${account.lost} acknowledged rows are not in the database`);
  reasons.push(...failedCommands(since), ...failedTakeovers(since));
  const deniedCalls = cloud.denied.map(
    ({ action, resource, role, reason }) => `${role.split('/').at(-1)}: ${action} on ${resource}: ${reason}`,
  );
  const promisesBroken = watch.broken.map(({ promise, detail }) => `${promise}: ${detail}`);
  const orphans = watch.orphans();
  const ok = reasons.length + deniedCalls.length + promisesBroken.length + orphans.length === 0;
  watcher.say(`the relocation took ${round((ended - noticed) / 1000)} s from the notice to its end`);
  return {
    scenario: 'spot-interruption',
    seed: options.seed,
    engine: options.engine,
    ok,
    reasons,
    downtimeSeconds: round((outage.to - outage.from) / 1000),
    floorSeconds: round(floorWithin(parts, outage) / 1000),
    acknowledgedRows: account.acknowledged,
    lostRows: account.lost,
    steps: stepsSince(parts, noticed),
    awsCalls: cloud.callCounts,
    deniedCalls,
    unusedPermissions: local.iam.unusedPermissions().map(({ role, action }) => `${role}: ${action}`),
    orphans,
    promisesBroken,
  };
}

/** A relocation can end well over a command that failed; a drill must not. A verification that comes too early is none. */
function failedCommands(happenings: readonly Happening[]): string[] {
  return happenings
    .filter(({ kind, detail }) => kind === 'command' && detail['phase'] === 'ended' && detail['exitCode'] !== 0)
    .filter(({ detail }) => !String(detail['document']).endsWith('-verify'))
    .map(
      ({ detail }) =>
        `${detail['document']} on ${detail['instanceId']} ended with exit code ${detail['exitCode']}${detail['stderr'] ? `: ${detail['stderr']}` : ''}`,
    );
}

/** What a host's takeover said last, where it failed. */
function failedTakeovers(happenings: readonly Happening[]): string[] {
  return happenings
    .filter(
      ({ kind, detail }) =>
        kind === 'output' && /^takeover: (?!.* waits for )|syntax error|unexpected EOF/.test(String(detail['line'])),
    )
    .map(({ subject, detail }) => `${subject}: ${detail['line']}`);
}
