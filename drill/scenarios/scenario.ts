import type { Happening } from '../cloud/kernel.ts';
import type { LatencyName } from '../cloud/latencies.ts';
import type { DrillReport } from '../report.ts';
import type { Sabotage } from '../sabotage.ts';
import type { Account, Stage } from '../stage.ts';

/** What a drill plays: how it begins, which work has to come to its end, and what counts as ok. */
export interface Scenario {
  readonly name: string;
  /** What happens, for the list of scenarios. */
  readonly what: string;
  /** The moment t+0, for sentences, e.g. `the notice`. */
  readonly beginning: string;
  /** What has to come to its end, for sentences, e.g. `relocation`, … */
  readonly work: string;
  /** … and the workflow that does it: the end of its state machine's name. */
  readonly workflow: 'relocate' | 'scale-up' | 'backup';
  /** How that has to end; default: SUCCEEDED. */
  readonly end?: 'FAILED';
  /** Between the beginning and the moment at which AWS takes the host: a countdown is shown. */
  readonly noticeSeconds?: number;
  /** The database is away from the beginning on without having been stopped, so that its next start recovers from a crash. */
  readonly crashes?: true;
  /** Hosts other than the first may fail to take over: the work has to cope with it. */
  readonly takeoversFail?: true;
  /** The longest move that is no failure yet, in seconds; default 60. */
  readonly longestMoveSeconds?: number;
  /** The longest that the work may take, in seconds; default 360. */
  readonly limitSeconds?: number;
  /** What AWS takes that the drill does not wait for in full. */
  readonly hastened?: { readonly latency: LatencyName; readonly factor: number };
  /** How it can be broken on purpose. */
  readonly sabotages: readonly Sabotage[];
  /** What it becomes when it is broken so, where that is to end in something else than a failed drill. */
  readonly spoiled?: Partial<Record<Sabotage, Scenario>>;
  /** Begins the line to quote, e.g. `The database moved`. */
  readonly outcome: string;
  /**
   * Makes it happen.
   *
   * @returns what is to be asked when the work has ended as it should
   * @throws AwsError when AWS refuses it
   */
  begin(scene: Scene): Verdict | Promise<Verdict>;
}

export interface Scene {
  readonly stage: Stage;
  /** The host that serves at the beginning. */
  readonly source: string;
  readonly watcher: Watcher;
}

/** What is wrong in the end, one sentence each. */
export type Verdict = (end: End) => Promise<readonly string[]>;

export interface End extends Pick<Account, 'gaps' | 'rows'> {
  /** The host that holds the volume. */
  readonly holder: string;
  /** How the first execution of the workflow failed, where it did. */
  readonly error: string | undefined;
  readonly cause: string | undefined;
}

export interface PlayOptions {
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
  /** This is t+0. @param noticeSeconds so long does AWS leave the host */
  begun(at: number, noticeSeconds?: number): void;
  committed(acknowledged: number, at: number): void;
  happening(happening: Happening): void;
}
