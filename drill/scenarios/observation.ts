import type { Happening } from '../cloud/kernel.ts';
import { failureOf } from '../diagnosis.ts';
import { unlessAborted } from '../interruption.ts';
import type { Account, Stage, Writer } from '../stage.ts';
import type { Scenario } from './scenario.ts';

/** After which a drill is called failed: the notice, and twice as long again. */
const LIMIT_SECONDS = 360;
/** A pause beside the work's own that is no checkpoint's hiccup any more. */
export const PAUSE_MS = 1_000;
/** So long without a commit, although nobody has stopped the database, is a reason to look at its host. */
const SUSPICIOUS_MS = 300;
/** So long is a failure, whatever the host says. */
const STANDSTILL_MS = 10_000;
/** The same while the database moves. */
const LONG_MOVE_SECONDS = 60;
/** How long the client may take to read back what it wrote; where a drill has failed, there may be no database. */
const READ_BACK_MS = 20_000;

/** What the client says at the end. */
export interface FinalAccount extends Omit<Account, 'lost'> {
  /** null: the database could not be read. */
  readonly lost: number | null;
}

/** What becomes known while it happens. */
export class Observation {
  /** Why the drill has failed. */
  readonly reasons = new Set<string>();
  readonly #stage: Stage;
  readonly #scenario: Scenario;
  readonly #source: string;
  readonly #pending: Promise<void>[] = [];
  #began = 0;
  #acknowledged = 0;
  #committedAt: number;
  #stopped = false;
  #attachedAt = Number.POSITIVE_INFINITY;

  constructor(stage: Stage, scenario: Scenario, source: string) {
    this.#stage = stage;
    this.#scenario = scenario;
    this.#source = source;
    this.#committedAt = stage.clock.now();
  }

  get failed(): boolean {
    return this.reasons.size > 0;
  }

  /** This is t+0. @param at milliseconds since the epoch */
  begun(at: number): void {
    this.#began = at;
    this.#stopped = this.#scenario.crashes === true;
  }

  committed(acknowledged: number, at: number): void {
    this.#acknowledged = acknowledged;
    this.#committedAt = at;
  }

  happened(happening: Happening): void {
    const { kind, subject, at, detail } = happening;
    const host = kind === 'command' ? detail['instanceId'] : subject;
    const failure = failureOf(happening);
    if (failure !== undefined && !(this.#scenario.takeoversFail && host !== this.#source)) this.reasons.add(failure);
    if (kind === 'command' && String(detail['document']).endsWith('-release')) {
      this.#stopped = true;
      this.#attachedAt = Number.POSITIVE_INFINITY;
      if (detail['phase'] === 'ended') this.#pending.push(this.diagnose(this.#source));
    }
    if (kind === 'volume-attachment' && detail['state'] === 'attached') this.#attachedAt = at;
  }

  /** Looks whether the client can commit, and at the clock. @param atWork whether the work has begun */
  async check(atWork: boolean): Promise<void> {
    const { beginning, work, limitSeconds = LIMIT_SECONDS, longestMoveSeconds = LONG_MOVE_SECONDS } = this.#scenario;
    const now = this.#stage.clock.now();
    const silence = now - this.#committedAt;
    if (!this.#isMoving && silence > SUSPICIOUS_MS) await this.diagnose(holderOf(this.#stage));
    if (silence > (this.#isMoving ? longestMoveSeconds * 1000 : STANDSTILL_MS)) {
      this.reasons.add(`the client cannot commit any more since ${sinceBeginning(this.#committedAt, this.#began)}`);
    }
    if (now - this.#began > limitSeconds * 1000) {
      const late = `the ${work} has not ended ${limitSeconds} s after ${beginning}`;
      this.reasons.add(atWork ? late : `${beginning} started no ${work}`);
    }
  }

  async diagnose(instanceId: string): Promise<void> {
    const afterCrash = this.#scenario.crashes === true;
    for (const reason of await this.#stage.diagnose(instanceId, { afterCrash })) this.reasons.add(reason);
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
    const acknowledged = account?.acknowledged ?? this.#acknowledged;
    return { acknowledged, lost: account?.lost ?? null, rows: account?.rows ?? [], gaps };
  }

  /** From its stop until a commit after the attachment, nobody expects the database to serve. */
  get #isMoving(): boolean {
    return this.#stopped && this.#committedAt < this.#attachedAt;
  }
}

/** The host that holds the data volume, or an empty string. */
export function holderOf({ watch }: Stage): string {
  return watch.liveVolume()?.attachment?.instanceId ?? '';
}

/** Where nobody may notice anything: that somebody did. */
export function noticed(gaps: Account['gaps']): string[] {
  const gap = Math.max(0, ...gaps.map(({ from, to }) => to - from));
  return gap < PAUSE_MS ? [] : [`the client could not commit for ${(gap / 1000).toFixed(1)} s`];
}

/** e.g. `t+12.3 s` */
export function sinceBeginning(at: number, began: number): string {
  return `t+${((at - began) / 1000).toFixed(1)} s`;
}
