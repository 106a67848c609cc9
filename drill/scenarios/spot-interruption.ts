import type { Happening } from '../cloud/kernel.ts';
import { failureOf } from '../diagnosis.ts';
import { unlessAborted } from '../interruption.ts';
import { type DrillReport, round, stepsSince } from '../report.ts';
import { type Sabotage, sabotage } from '../sabotage.ts';
import type { Account, Stage, Writer } from '../stage.ts';
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
const POLL_MS = 100;
/** A pause beside the relocation's own that is no checkpoint's hiccup any more. */
const PAUSE_MS = 1_000;
/** So long without a commit, although nobody has stopped the database, is a reason to look at its host. */
const SUSPICIOUS_MS = 300;
/** So long is a failure, whatever the host says. */
const STANDSTILL_MS = 10_000;
/** The same while the database moves. */
const LONG_MOVE_MS = 60_000;
/** How long the client may take to read back what it wrote; where a drill has failed, there may be no database. */
const READ_BACK_MS = 20_000;

/** AWS takes the Spot host of a database into which a client writes all the while. A drill that has failed ends early. */
export async function spotInterruption(stage: Stage, options: ScenarioOptions): Promise<DrillReport> {
  const { clock, watch, local } = stage;
  const { watcher, signal } = options;
  const pause = (ms: number) => unlessAborted(clock.sleep(ms), signal);
  const source = holderOf(stage);
  watcher.say(`${stage.database} serves on ${source}; a client writes ${options.rate} rows a second`);
  const writer = await unlessAborted(stage.connect(options.rate), signal);
  const observation = new Observation(stage, source);
  writer.onProgress(({ acknowledged, lastAcknowledgedAt }) => {
    observation.committed(acknowledged, lastAcknowledgedAt);
    watcher.committed(acknowledged, lastAcknowledgedAt);
  });
  await pause(QUIET_MS);

  const noticed = clock.now();
  const relocation = nextRelocation(stage);
  local.cloud.onHappening((happening) => {
    watcher.happening(happening);
    observation.happened(happening);
  });
  watcher.countdown(noticed, NOTICE_SECONDS);
  local.ec2.interrupt(source, { noticeSeconds: NOTICE_SECONDS });
  if (options.sabotage) sabotage(options.sabotage, stage, source);
  while (!observation.failed && !local.cloud.failure && (relocation()?.status ?? 'RUNNING') === 'RUNNING') {
    await pause(POLL_MS);
    await observation.check(noticed, relocation() !== undefined);
  }

  const { status = 'RUNNING', error, cause } = relocation() ?? {};
  const { reasons } = observation;
  if (local.cloud.failure) reasons.add(`the local cloud itself failed: ${local.cloud.failure.message}`);
  if (status === 'SUCCEEDED') {
    watcher.say(`the relocation took ${((clock.now() - noticed) / 1000).toFixed(1)} s from the notice to its end`);
    await pause(QUIET_MS);
    await observation.diagnose(holderOf(stage));
    if (holderOf(stage) === source) reasons.add(`the relocation succeeded, and the database is still on ${source}`);
  } else if (status !== 'RUNNING') {
    reasons.add(`the relocation ended as ${status}: ${error}: ${cause}`);
  }
  await observation.settled();
  const account = await observation.readBack(writer, signal);
  if (account.lost === null && status === 'SUCCEEDED') reasons.add('the client cannot read back what it wrote');
  // What a drill that ended early has left lying about is no orphan.
  if (status !== 'RUNNING') watch.conclude();
  const orphans = status === 'RUNNING' ? [] : watch.orphans();
  return report(stage, options, { noticed, account, reasons, orphans });
}

/** What the client says at the end. */
interface FinalAccount extends Omit<Account, 'lost'> {
  /** null: the database could not be read. */
  readonly lost: number | null;
}

interface Findings {
  readonly noticed: number;
  readonly account: FinalAccount;
  readonly reasons: ReadonlySet<string>;
  readonly orphans: readonly string[];
}

function report(stage: Stage, options: ScenarioOptions, { noticed, account, reasons, orphans }: Findings): DrillReport {
  const { local, watch } = stage;
  const [outage = { from: noticed, to: noticed }, ...pauses] = [...account.gaps].sort(
    (a, b) => b.to - b.from - (a.to - a.from),
  );
  const failures = [...reasons];
  for (const { from, to } of pauses.filter((gap) => gap.to - gap.from > PAUSE_MS)) {
    const seconds = ((to - from) / 1000).toFixed(1);
    failures.push(`the client could not commit for ${seconds} s at ${sinceNotice(from, noticed)}, beside the move`);
  }
  if (account.acknowledged === 0) failures.push('no row was acknowledged');
  if (account.lost) failures.push(`${account.lost} acknowledged rows are not in the database`);
  const parts = partsOf(local.cloud.happenings.filter(({ at }) => at >= noticed));
  const deniedCalls = local.cloud.denied.map(
    ({ action, resource, role, reason }) => `${role.split('/').at(-1)}: ${action} on ${resource}: ${reason}`,
  );
  const promisesBroken = watch.broken.map(({ promise, detail }) => `${promise}: ${detail}`);
  return {
    scenario: 'spot-interruption',
    seed: options.seed,
    engine: options.engine,
    ok: failures.length + deniedCalls.length + promisesBroken.length + orphans.length === 0,
    reasons: failures,
    downtimeSeconds: round((outage.to - outage.from) / 1000),
    floorSeconds: round(floorWithin(parts, outage) / 1000),
    acknowledgedRows: account.acknowledged,
    lostRows: account.lost,
    steps: stepsSince(parts, noticed),
    awsCalls: local.cloud.callCounts,
    deniedCalls,
    unusedPermissions: local.iam.unusedPermissions().map(({ role, action }) => `${role}: ${action}`),
    orphans,
    promisesBroken,
  };
}

/** e.g. `t+12.3 s` */
function sinceNotice(at: number, noticed: number): string {
  return `t+${((at - noticed) / 1000).toFixed(1)} s`;
}

function holderOf({ watch }: Stage): string {
  return watch.liveVolume()?.attachment?.instanceId ?? '';
}

/** Finds the next relocation of the database to begin. */
function nextRelocation({ local: { states }, database }: Stage): () => (typeof states.executions)[number] | undefined {
  const before = states.executions.length;
  return () =>
    states.executions
      .slice(before)
      .find(({ machine, name }) => machine.name.endsWith('-relocate') && name.startsWith(`${database}-`));
}

/** What becomes known while it happens. */
class Observation {
  /** Why the drill has failed. */
  readonly reasons = new Set<string>();
  readonly #stage: Stage;
  readonly #source: string;
  readonly #pending: Promise<void>[] = [];
  #acknowledged = 0;
  #committedAt: number;
  #releasing = false;
  #attachedAt = Number.POSITIVE_INFINITY;

  constructor(stage: Stage, source: string) {
    this.#stage = stage;
    this.#source = source;
    this.#committedAt = stage.clock.now();
  }

  get failed(): boolean {
    return this.reasons.size > 0;
  }

  committed(acknowledged: number, at: number): void {
    this.#acknowledged = acknowledged;
    this.#committedAt = at;
  }

  happened(happening: Happening): void {
    const failure = failureOf(happening);
    if (failure !== undefined) this.reasons.add(failure);
    const { kind, at, detail } = happening;
    if (kind === 'command' && String(detail['document']).endsWith('-release')) {
      this.#releasing = true;
      this.#attachedAt = Number.POSITIVE_INFINITY;
      if (detail['phase'] === 'ended') this.#pending.push(this.diagnose(this.#source));
    }
    if (kind === 'volume-attachment' && detail['state'] === 'attached') this.#attachedAt = at;
  }

  /** Looks whether the client can commit, and at the clock. */
  async check(noticed: number, begun: boolean): Promise<void> {
    const now = this.#stage.clock.now();
    const silence = now - this.#committedAt;
    if (!this.#isMoving && silence > SUSPICIOUS_MS) await this.diagnose(holderOf(this.#stage));
    if (silence > (this.#isMoving ? LONG_MOVE_MS : STANDSTILL_MS)) {
      this.reasons.add(`the client cannot commit any more since ${sinceNotice(this.#committedAt, noticed)}`);
    }
    if (now - noticed > LIMIT_MS) {
      const late = `the relocation has not ended ${LIMIT_MS / 1000} s after the notice`;
      this.reasons.add(begun ? late : 'the notice started no relocation');
    }
  }

  async diagnose(instanceId: string): Promise<void> {
    for (const reason of await this.#stage.diagnose(instanceId)) this.reasons.add(reason);
  }

  /** Resolves when everything is known that was asked for. */
  async settled(): Promise<void> {
    await Promise.all(this.#pending);
  }

  /** What the client says at the end, which it cannot when there is no database. A gap that is still open ends now. */
  async readBack(writer: Writer, signal: AbortSignal): Promise<FinalAccount> {
    const { clock } = this.#stage;
    const open = { from: this.#committedAt, to: clock.now() };
    const told = writer.stop().catch(() => undefined);
    const account = await unlessAborted(Promise.race([told, clock.sleep(READ_BACK_MS).then(() => undefined)]), signal);
    const gaps = [...(account?.gaps ?? [])];
    if (open.to - open.from > PAUSE_MS && !gaps.some(({ to }) => to > open.from)) gaps.push(open);
    return { acknowledged: account?.acknowledged ?? this.#acknowledged, lost: account?.lost ?? null, gaps };
  }

  /** From the release until a commit after the attachment, nobody expects the database to serve. */
  get #isMoving(): boolean {
    return this.#releasing && this.#committedAt < this.#attachedAt;
  }
}
