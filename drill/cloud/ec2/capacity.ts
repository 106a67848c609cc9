import { INSTANCE_TYPES } from './instance-types.ts';
import type { Lifecycle } from './records.ts';

/** docs: us-east-1 has these six; other regions have fewer, which no request here can tell. */
const ZONE_LETTERS = ['a', 'b', 'c', 'd', 'e', 'f'];

/** What AWS has to give: which instance types in which zone, and how many of them. */
export class Capacity {
  readonly #zones: readonly string[];
  readonly #launches = new Map<string, number>();
  readonly #notOffered = new Set<string>();

  constructor(region: string) {
    this.#zones = ZONE_LETTERS.map((letter) => `${region}${letter}`);
  }

  /** @param launches how many more launches find capacity; Infinity for no limit */
  set(type: string, lifecycle: Lifecycle, launches: number): void {
    this.#launches.set(`${type} ${lifecycle}`, launches);
  }

  left(type: string, lifecycle: Lifecycle): number {
    return this.#launches.get(`${type} ${lifecycle}`) ?? Number.POSITIVE_INFINITY;
  }

  /** One launch uses it up. */
  take(type: string, lifecycle: Lifecycle): void {
    this.set(type, lifecycle, this.left(type, lifecycle) - 1);
  }

  setOffered(type: string, zone: string, offered: boolean): void {
    if (offered) this.#notOffered.delete(`${type} ${zone}`);
    else this.#notOffered.add(`${type} ${zone}`);
  }

  isOffered(type: string, zone: string): boolean {
    return !this.#notOffered.has(`${type} ${zone}`);
  }

  /** Every type in every zone where it can be had. */
  offerings(): { readonly type: string; readonly zone: string }[] {
    return Object.keys(INSTANCE_TYPES).flatMap((type) =>
      this.#zones.filter((zone) => this.isOffered(type, zone)).map((zone) => ({ type, zone })),
    );
  }
}
