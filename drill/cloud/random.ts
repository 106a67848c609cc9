/** All randomness of a drill or a simulated schedule: the same seed gives the same run. */
export class Random {
  #state: number;

  /** @param seed any integer */
  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) >>> 0;
  }

  /** The next number in [0, 1). mulberry32: 32 bits of state, public domain (github.com/bryc/code, jshash/PRNGs.md). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** An integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.next() < p;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('nothing to pick from');
    return items[this.below(items.length)] as T;
  }

  /** `length` lower-case hexadecimal digits, for resource ids. */
  hex(length: number): string {
    let out = '';
    while (out.length < length) out += this.below(16).toString(16);
    return out;
  }

  /** A version 4 UUID. */
  uuid(): string {
    const hex = this.hex(30);
    const variant = '89ab'[this.below(4)];
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(12, 15)}-${variant}${hex.slice(15, 18)}-${hex.slice(18, 30)}`;
  }

  /** A sample of the log-normal distribution with this median and 99th percentile (both in the same unit). */
  logNormal(median: number, p99: number): number {
    const u = Math.max(this.next(), 1e-12);
    const normal = Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * this.next());
    const sigma = Math.log(Math.max(p99, median) / median) / 2.326; // 2.326: the standard normal's 99th percentile
    return median * Math.exp(sigma * normal);
  }

  /** A generator of its own, so that a new consumer of randomness does not shift everybody else's. */
  fork(label: string): Random {
    let hash = this.#state;
    for (const char of label) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
    return new Random(hash);
  }
}
