/** A set of whole numbers that grows mostly at its end, as ranges: a row takes no memory of its own. */
export class RowSet {
  readonly #ranges: [first: number, last: number][] = [];

  /** Adds `first` to `last`, which have to be above everything in the set. */
  append(first: number, last: number): void {
    const newest = this.#ranges.at(-1);
    if (newest && newest[1] === first - 1) newest[1] = last;
    else this.#ranges.push([first, last]);
  }

  get size(): number {
    return this.#ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  }

  /** From the lowest to the highest. */
  *[Symbol.iterator](): Generator<number> {
    for (const [first, last] of this.#ranges) for (let number = first; number <= last; number++) yield number;
  }

  /** How many of this set's numbers the other one has too. */
  sharedWith(other: RowSet): number {
    let shared = 0;
    for (const [first, last] of this.#ranges) {
      for (const [otherFirst, otherLast] of other.#ranges) {
        shared += Math.max(0, Math.min(last, otherLast) - Math.max(first, otherFirst) + 1);
      }
    }
    return shared;
  }

  /** Takes out the `count` highest. */
  dropNewest(count: number): void {
    let left = count;
    for (let newest = this.#ranges.at(-1); newest && left > 0; newest = this.#ranges.at(-1)) {
      const size = newest[1] - newest[0] + 1;
      if (size > left) newest[1] -= left;
      else this.#ranges.pop();
      left -= size;
    }
  }

  copy(): RowSet {
    const copy = new RowSet();
    for (const [first, last] of this.#ranges) copy.#ranges.push([first, last]);
    return copy;
  }
}

/** What census.sh has written into the database. */
export interface Census {
  readonly id: string;
  /** ISO 8601 */
  readonly takenAt: string;
  /** In all relations, when it was taken. */
  readonly rows: number;
}

/** What is on a volume. */
export interface DiskContent {
  formatted: boolean;
  /** What its file system can hold; 0 before it is formatted. A larger volume changes nothing here: somebody has to grow it. */
  fileSystemGiB: number;
  /** Keeper's mark for a file system whose first start has not succeeded yet. */
  initialising: boolean;
  /** The database that lives in its data directory. */
  database: string | undefined;
  /** What pg_control says: `shut down`. Otherwise the next start is a crash recovery. */
  cleanlyShutDown: boolean;
  /**
   * The committed rows, by the client that wrote them. A commit is on the disk when it is acknowledged
   * (synchronous_commit is on), so a crash loses none.
   */
  rows: Map<string, RowSet>;
  /** The newest last. */
  censuses: readonly Census[];
  /** Fault: what is wrong with the bytes, which only reading all of them brings to light. */
  damage: string | undefined;
}

export function countRows({ rows }: DiskContent): number {
  return [...rows.values()].reduce((sum, set) => sum + set.size, 0);
}

export function blankDisk(): DiskContent {
  return {
    formatted: false,
    fileSystemGiB: 0,
    initialising: false,
    database: undefined,
    cleanlyShutDown: false,
    rows: new Map(),
    censuses: [],
    damage: undefined,
  };
}

/** An atomic copy, as EBS makes it: with a server running, it is the disk of a server that crashed. */
export function copyDisk(content: DiskContent): DiskContent {
  const rows = new Map([...content.rows].map(([client, set]) => [client, set.copy()]));
  return { ...content, rows };
}

/** A volume of the modelled hosts. */
export interface Disk {
  readonly volumeId: string;
  /** The size of the device. */
  sizeGiB: number;
  readonly content: DiskContent;
  /** The hosts whose PostgreSQL runs on it now. More than one is the end of the data. */
  readonly writers: Set<string>;
}
