import type { Clock } from '../../cloud/clock.ts';
import type { AcknowledgedRow } from '../../ledger/ledger.ts';
import { type Disk, RowSet } from './disk.ts';

/** What a client can say about the database it used. */
export interface Ledger {
  readonly acknowledged: number;
  /** Acknowledged rows that the volume which serves now, or served last, does not hold. */
  readonly lost: number;
  /** From the last row acknowledged before each outage to the first one after it; the last gap may still be open. */
  readonly gaps: readonly Gap[];
}

export interface Gap {
  /** Milliseconds since the epoch. */
  readonly from: number;
  readonly to: number;
}

/**
 * A client that tries to insert a row at a fixed rate through one address. It takes no timers: between two changes of
 * what serves the address it is known which of its attempts succeeded.
 */
export class ModelledClient {
  readonly #name: string;
  readonly #clock: Clock;
  readonly #startedAt: number;
  readonly #intervalMs: number;
  readonly #servingDisk: () => Disk | undefined;
  readonly #acknowledged = new RowSet();
  readonly #gaps: Gap[] = [];
  #lastDisk: Disk | undefined;
  #settledUntil: number;
  #lastRow = 0;

  constructor(name: string, clock: Clock, rowsPerSecond: number, servingDisk: () => Disk | undefined) {
    this.#name = name;
    this.#clock = clock;
    this.#startedAt = clock.now();
    this.#settledUntil = this.#startedAt;
    this.#intervalMs = 1000 / rowsPerSecond;
    this.#servingDisk = servingDisk;
  }

  /** Accounts for the time up to now, in which what serves the address was as it is now. */
  settle(): void {
    const now = this.#clock.now();
    const first = this.#attemptsUntil(this.#settledUntil) + 1;
    const last = this.#attemptsUntil(now);
    this.#settledUntil = now;
    const disk = this.#servingDisk();
    if (!disk) return;
    this.#lastDisk = disk;
    if (last < first) return;
    this.#acknowledged.append(first, last);
    const rows = disk.content.rows.get(this.#name) ?? new RowSet();
    rows.append(first, last);
    disk.content.rows.set(this.#name, rows);
    if (first > this.#lastRow + 1) this.#gaps.push({ from: this.#timeOf(this.#lastRow), to: this.#timeOf(first) });
    this.#lastRow = last;
  }

  ledger(): Ledger {
    this.settle();
    const now = this.#clock.now();
    const open = this.#attemptsUntil(now) > this.#lastRow;
    const acknowledged = this.#acknowledged.size;
    const held = this.#lastDisk?.content.rows.get(this.#name) ?? new RowSet();
    return {
      acknowledged,
      lost: acknowledged - this.#acknowledged.sharedWith(held),
      gaps: open ? [...this.#gaps, { from: this.#timeOf(this.#lastRow), to: now }] : [...this.#gaps],
    };
  }

  /** The acknowledged rows. Each was sent and acknowledged at the same moment, in milliseconds since the epoch. */
  rows(): AcknowledgedRow[] {
    this.settle();
    return [...this.#acknowledged].map((number) => {
      const at = this.#timeOf(number);
      return { number, sentAt: at, acknowledgedAt: at };
    });
  }

  // Row 1 is tried one interval after the start.
  #attemptsUntil(time: number): number {
    return Math.floor((time - this.#startedAt) / this.#intervalMs);
  }

  #timeOf(row: number): number {
    return this.#startedAt + row * this.#intervalMs;
  }
}
