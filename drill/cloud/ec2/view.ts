import type { Shape } from '../kernel.ts';

/**
 * What Describe calls see of one resource. EC2 is eventually consistent: every change appears a moment after it
 * happened. Changes appear in their order, so that nobody travels back in time.
 */
export class View {
  #versions: { readonly visibleAt: number; readonly shape: Shape }[] = [];

  /** @param lagMs how much later than `now` Describe calls see `shape` */
  publish(shape: Shape, now: number, lagMs: number): void {
    this.#versions.push({ visibleAt: now + lagMs, shape });
  }

  /** A copy of what is visible at `now`, undefined while nothing is. */
  read(now: number): Shape | undefined {
    // One by one, so that a change that is visible early waits for those before it.
    while (this.#versions[1] && this.#versions[1].visibleAt <= now) this.#versions.shift();
    const first = this.#versions[0];
    return first && first.visibleAt <= now ? structuredClone(first.shape) : undefined;
  }
}
