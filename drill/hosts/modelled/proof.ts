import type { Clock } from '../../cloud/clock.ts';
import { countRows, type DiskContent } from './disk.ts';

/** What prove.sh reports, as its JSON has it. */
export interface Proof {
  readonly ok: boolean;
  readonly level: 'quick' | 'full';
  readonly checks: readonly Check[];
  readonly censusTakenAt: string | null;
  /** The modelled server's, which has no extensions. */
  readonly serverVersion: string | null;
  readonly timescaledb: null;
  readonly recoverySeconds: number | null;
  readonly bytesRead: number | null;
  readonly seconds: number;
}

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly detail: string;
  /** Of a failed one, whose first finding is its `detail`. */
  readonly findings?: readonly string[];
  /** How many findings there are beyond those. */
  readonly more?: number;
}

/** The checks of one run, and what each of them took. */
export class Checks {
  readonly all: Check[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param good what to say when nothing is found
   * @param look resolves to what is wrong, if anything is
   * @returns whether all is well
   */
  async run(name: string, good: string, look: () => Promise<string | undefined>): Promise<boolean> {
    const began = this.#clock.now();
    const finding = await look();
    const ok = finding === undefined;
    const seconds = (this.#clock.now() - began) / 1000;
    this.all.push({ name, ok, seconds, detail: finding ?? good, ...(!ok && { findings: [finding], more: 0 }) });
    return ok;
  }

  get passed(): boolean {
    return this.all.every(({ ok }) => ok);
  }
}

// What is wrong with the content of a clone, if anything is.

export function mountFinding({ formatted }: DiskContent): string | undefined {
  return formatted ? undefined : 'the volume has no XFS file system that can be mounted: it is blank';
}

export function directoryFinding({ database }: DiskContent, expected: string): string | undefined {
  if (database === undefined) return 'the volume holds no PostgreSQL data directory in pgdata/';
  return database === expected ? undefined : `the volume holds the database ${database}, expected ${expected}`;
}

export function censusFinding({ censuses }: DiskContent, id: string): string | undefined {
  if (censuses.some((census) => census.id === id)) return undefined;
  return `the census ${id} that was written before the snapshot is not in it: the end of the WAL is missing, or this is another volume`;
}

export function pagesFinding({ damage }: DiskContent): string | undefined {
  return damage;
}

/** Rows are only ever added, so what the census counted is the least. */
export function rowsFinding(content: DiskContent, id: string): string | undefined {
  const expected = content.censuses.find((census) => census.id === id)?.rows ?? 0;
  const rows = countRows(content);
  return rows < expected ? `the tables have ${rows} rows; in the census they have ${expected}` : undefined;
}
