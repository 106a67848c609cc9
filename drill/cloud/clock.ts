/** A cancellable timer of a {@link Clock}. */
export interface Timer {
  cancel(): void;
}

/**
 * The one source of time of the local cloud. The drill runs on the real clock, the simulation and most tests on the
 * virtual one; nothing under drill/ may read `Date.now()` or call the global `setTimeout` itself.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Calls `fn` once, `ms` from now; a time that has passed is now. */
  after(ms: number, fn: () => void): Timer;
  /** Resolves `ms` from now. */
  sleep(ms: number): Promise<void>;
  /**
   * Declares work that leaves the event loop (a file, a child process, a thread pool): virtual time stands still until
   * it settles. On the real clock it is the promise itself.
   */
  external<T>(work: Promise<T>): Promise<T>;
}

export class RealClock implements Clock {
  now(): number {
    return Date.now();
  }
  after(ms: number, fn: () => void): Timer {
    const handle = setTimeout(fn, Math.max(0, ms));
    return { cancel: () => clearTimeout(handle) };
  }
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }
  external<T>(work: Promise<T>): Promise<T> {
    return work;
  }
}

interface Entry {
  at: number;
  order: number;
  fn: () => void;
  cancelled: boolean;
}

/**
 * Time that passes only when nothing else is left to do: {@link run} drains all promises, then jumps to the next timer.
 * Two timers of the same instant fire in the order in which they were set, so a run is replayable.
 */
export class VirtualClock implements Clock {
  #now: number;
  #order = 0;
  #heap: Entry[] = [];
  #outside = 0;

  /** @param start milliseconds since the epoch; the default is an arbitrary fixed day, so that two runs are the same */
  constructor(start = Date.parse('2026-01-05T12:00:00Z')) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): Timer {
    const entry: Entry = { at: this.#now + Math.max(0, ms), order: this.#order++, fn, cancelled: false };
    this.#push(entry);
    return {
      cancel: () => {
        entry.cancelled = true;
      },
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  async external<T>(work: Promise<T>): Promise<T> {
    this.#outside++;
    try {
      return await work;
    } finally {
      this.#outside--;
    }
  }

  /**
   * Lets virtual time pass until `done` settles, and returns what it resolved to (or throws what it rejected with).
   * @throws Error when nothing is left that could ever settle it, or `limitMs` of virtual time have passed.
   */
  async run<T>(done: Promise<T>, limitMs = 48 * 3_600_000): Promise<T> {
    let settled = false;
    const watched = done.then(
      (value) => {
        settled = true;
        return value;
      },
      (error: unknown) => {
        settled = true;
        throw error;
      },
    );
    watched.catch(() => {});
    const end = this.#now + limitMs;
    for (;;) {
      await this.#drain();
      if (settled) return watched;
      const next = this.#pop();
      if (!next)
        throw new Error('virtual time stands still: no timer is left, and what was waited for has not happened');
      if (next.at > end)
        throw new Error(`what was waited for did not happen within ${limitMs / 1000} s of virtual time`);
      this.#now = next.at;
      next.fn();
    }
  }

  /** Lets `ms` of virtual time pass. */
  async pass(ms: number): Promise<void> {
    await this.run(this.sleep(ms));
  }

  // All promise jobs and ticks run before an immediate does; a second turn covers what the first one's immediates queued.
  async #drain(): Promise<void> {
    do {
      await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setImmediate(resolve));
    } while (this.#outside > 0);
  }

  #before(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent] as Entry;
      if (!this.#before(entry, above)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = entry;
  }

  #pop(): Entry | undefined {
    for (;;) {
      const heap = this.#heap;
      const top = heap[0];
      const last = heap.pop();
      if (!top || !last) return undefined;
      if (heap.length > 0) {
        let i = 0;
        for (;;) {
          let child = 2 * i + 1;
          if (child >= heap.length) break;
          const right = heap[child + 1];
          if (right && this.#before(right, heap[child] as Entry)) child++;
          if (!this.#before(heap[child] as Entry, last)) break;
          heap[i] = heap[child] as Entry;
          i = child;
        }
        heap[i] = last;
      }
      if (!top.cancelled) return top;
    }
  }
}
