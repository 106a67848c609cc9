import type { Clock, Timer } from '../clock.ts';

/** Runs a callback of an execution environment if and when the environment runs. @see ExecutionEnvironment */
export type Gate = (callback: () => void) => void;

/** What `setTimeout` returns in Node.js, as far as code outside Node.js itself uses it. */
class Timeout {
  readonly #timers: SandboxTimers;
  readonly #id: number;
  constructor(timers: SandboxTimers, id: number) {
    this.#timers = timers;
    this.#id = id;
  }
  // A Lambda function's event loop ends with its invocation, so being referenced makes no difference.
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
  close(): this {
    this.#timers.clear(this.#id);
    return this;
  }
  [Symbol.toPrimitive](): number {
    return this.#id;
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

type Callback = (...args: unknown[]) => void;

/** The timers of one execution environment, on the clock of the cloud. */
export class SandboxTimers {
  readonly #clock: Clock;
  readonly #gate: Gate;
  readonly #pending = new Map<number, Timer>();
  #lastId = 0;

  constructor(clock: Clock, gate: Gate) {
    this.#clock = clock;
    this.#gate = gate;
  }

  setTimeout(callback: Callback, ms?: number, ...args: unknown[]): Timeout {
    const id = ++this.#lastId;
    this.#start(id, delay(ms), () => {
      this.#pending.delete(id);
      callback(...args);
    });
    return new Timeout(this, id);
  }

  setInterval(callback: Callback, ms?: number, ...args: unknown[]): Timeout {
    const id = ++this.#lastId;
    const period = delay(ms);
    const tick = () => {
      this.#start(id, period, tick);
      callback(...args);
    };
    this.#start(id, period, tick);
    return new Timeout(this, id);
  }

  setImmediate(callback: Callback, ...args: unknown[]): Timeout {
    const id = ++this.#lastId;
    this.#start(id, 0, () => {
      this.#pending.delete(id);
      callback(...args);
    });
    return new Timeout(this, id);
  }

  clear(timeout: unknown): void {
    const id = Number(timeout);
    this.#pending.get(id)?.cancel();
    this.#pending.delete(id);
  }

  clearAll(): void {
    for (const timer of this.#pending.values()) timer.cancel();
    this.#pending.clear();
  }

  // A timer can be cleared while it waits for the environment to run again.
  #start(id: number, ms: number, fire: () => void): void {
    const timer = this.#clock.after(ms, () =>
      this.#gate(() => {
        if (this.#pending.get(id) === timer) fire();
      }),
    );
    this.#pending.set(id, timer);
  }

  /** Resolves `ms` from now, as `node:timers/promises` does. */
  async sleep<T>(ms?: number, value?: T, options?: { signal?: AbortSignal }): Promise<T | undefined> {
    const signal = options?.signal;
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.clear(timeout);
        reject(new DOMException('The operation was aborted', 'AbortError'));
      };
      const timeout = this.setTimeout(() => {
        signal?.removeEventListener('abort', abort);
        resolve(value);
      }, ms);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}

/** Node.js makes 1 ms of everything that is not between 1 ms and 2^31-1 ms. */
function delay(ms: unknown): number {
  const number = Number(ms);
  return number >= 1 && number <= 2 ** 31 - 1 ? Math.trunc(number) : 1;
}
