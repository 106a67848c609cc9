import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { spawnBound } from '../hosts/real/processes.ts';
import type { ClientMessage, ClientOptions } from './protocol.ts';

export interface LedgerOptions {
  /** Turns a command into one that runs where clients are. */
  readonly onClient: (command: readonly string[]) => readonly string[];
  readonly address: string;
  readonly password: string;
  /** Rows a second, each a commit of its own; default 200. */
  readonly ratePerSecond?: number;
  /** Connections that share the rate; default 4. */
  readonly connections?: number;
}

export interface LedgerProgress {
  readonly acknowledged: number;
  readonly unanswered: number;
  /** When the newest acknowledgement arrived, in milliseconds since the epoch. */
  readonly lastAcknowledgedAt: number;
}

/** A time without acknowledgements, in milliseconds since the epoch. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** A row whose commit was acknowledged; times in milliseconds since the epoch. */
export interface AcknowledgedRow {
  readonly number: number;
  readonly sentAt: number;
  readonly acknowledgedAt: number;
}

export interface LedgerReport {
  readonly acknowledged: number;
  /** Those that were acknowledged. */
  readonly rows: readonly AcknowledgedRow[];
  /** Sent and never answered: neither lost nor there. */
  readonly unanswered: number;
  /** Acknowledged, and not in the table. */
  readonly lost: readonly number[];
  /** Longer than {@link GAP_MS}, in order of time. */
  readonly gaps: readonly Gap[];
  /** The longest time between two acknowledged commits: the downtime as a client sees it. */
  readonly longestGap: Gap;
}

/** Shorter pauses are checkpoints and the like, not outages. */
export const GAP_MS = 250;

/** A client outside of all hosts that writes all the while, and the record of what it was told. */
export class Ledger {
  readonly #acknowledged: AcknowledgedRow[] = [];
  readonly #listeners: ((progress: LedgerProgress) => void)[] = [];
  #unanswered = 0;
  #process: ChildProcess | undefined;
  #table: Promise<readonly number[]> | undefined;

  /**
   * Resolves when the first row is acknowledged.
   * @throws Error when the client ends before
   */
  async start(options: LedgerOptions): Promise<void> {
    const { address, ratePerSecond = 200, connections = 4 } = options;
    const clientOptions: ClientOptions = { address, ratePerSecond, connections };
    const client = fileURLToPath(new URL('./client.ts', import.meta.url));
    this.#process = spawnBound(options.onClient([process.execPath, client, JSON.stringify(clientOptions)]), {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, PGPASSWORD: options.password },
    });
    const begun = new Promise<void>((resolve) => this.onProgress(() => resolve()));
    this.#table = this.#listen(this.#process);
    this.#table.catch(() => {}); // stop() throws it
    await Promise.race([begun, this.#table]);
  }

  onProgress(listener: (progress: LedgerProgress) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Ends the writing and reads the table back.
   * @throws Error when the client has failed, or the database does not come back
   */
  async stop(): Promise<LedgerReport> {
    if (!this.#table) throw new Error('the ledger was not started');
    this.#process?.stdin?.end();
    const table = new Set(await this.#table);
    const times = this.#acknowledged.map(({ acknowledgedAt }) => acknowledgedAt).sort((a, b) => a - b);
    const gaps = times.slice(1).map((to, i) => ({ from: times[i] ?? to, to }));
    return {
      acknowledged: times.length,
      rows: this.#acknowledged,
      unanswered: this.#unanswered,
      lost: this.#acknowledged.map(({ number }) => number).filter((number) => !table.has(number)),
      gaps: gaps.filter(({ from, to }) => to - from > GAP_MS),
      longestGap: gaps.reduce((longest, gap) => (gap.to - gap.from > longest.to - longest.from ? gap : longest), {
        from: 0,
        to: 0,
      }),
    };
  }

  /** Resolves with the numbers in the table, which is the last that the client says. */
  #listen(client: ChildProcess): Promise<readonly number[]> {
    return new Promise((resolve, reject) => {
      let complaints = '';
      client.stderr?.on('data', (chunk: Buffer) => {
        complaints += chunk;
      });
      client.once('error', reject);
      client.once('exit', (code) => {
        if (code !== 0) reject(new Error(`the ledger's client has ended: ${complaints.trim()}`));
      });
      createInterface({ input: client.stdout as NodeJS.ReadableStream }).on('line', (line) => {
        const message = JSON.parse(line) as ClientMessage;
        if (message.kind === 'table') resolve(message.numbers);
        else this.#enter(message);
      });
    });
  }

  #enter({ acknowledged, unanswered }: Extract<ClientMessage, { kind: 'progress' }>): void {
    for (const [number, sentAt, acknowledgedAt] of acknowledged) {
      this.#acknowledged.push({ number, sentAt, acknowledgedAt });
    }
    this.#unanswered += unanswered.length;
    const lastAcknowledgedAt = this.#acknowledged.at(-1)?.acknowledgedAt;
    if (lastAcknowledgedAt === undefined) return;
    const progress = { acknowledged: this.#acknowledged.length, unanswered: this.#unanswered, lastAcknowledgedAt };
    for (const listener of this.#listeners) listener(progress);
  }
}
