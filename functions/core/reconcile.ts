import { type DatabaseState, type HostState, holderOf, isAlive, servingHost } from './state.ts';

export interface Circumstances {
  /** Names of the relocations of this database that are running. */
  readonly relocations: readonly string[];
  /** When relocations of this database failed lately, in milliseconds since the epoch. */
  readonly failedAt: readonly number[];
  /** What a host said last of its takeover: `i-0123456789abcdef0 serves`, `… failed`, or `… released`. */
  readonly takeover: string;
}

export interface Reconciliation {
  readonly action: 'relocate' | 'none';
  readonly reason: string;
  /** Hosts that serve nothing and that no relocation waits for: to be terminated. */
  readonly strays: readonly HostState[];
}

/** A host that was just launched may not be known to the execution that asked for it yet. */
const STRAY_MINUTES = 15;
/** A notice starts its relocation itself, within a second or two. After this long it has not, or that one has ended. */
const NOTICE_SECONDS = 10;
/** A host that has been there for so long without having been seen serving does not serve: it hangs, or nobody looked. */
const UNPROVEN_MINUTES = 5;
/** The longest pause between two tries when one fails after the other. */
const MOST_PAUSE_MINUTES = 15;

/**
 * Compares a database as it is with what should be. Pure.
 *
 * @param now milliseconds since the epoch
 */
export function reconcile(state: DatabaseState, circumstances: Circumstances, now: number): Reconciliation {
  const strays = straysOf(state, circumstances.relocations, now);
  const none = (reason: string): Reconciliation => ({ action: 'none', reason, strays });
  const serving = servingHost(state);
  const doubt = serving && whyDoubt(serving, circumstances.takeover, now);
  if (serving && !doubt) return none(`${serving.id} serves`);
  if (circumstances.relocations.length > 0) return none(`${circumstances.relocations[0]} is running`);
  const again = pauseEnds(circumstances.failedAt);
  if (now < again)
    return none(`the last relocation failed; the next one starts in ${Math.ceil((again - now) / 1000)} s`);
  return { action: 'relocate', reason: doubt ?? whyNot(state), strays };
}

/** Why a host that has the volume and the address may not serve all the same, or undefined. */
function whyDoubt(host: HostState, takeover: string, now: number): string | undefined {
  if (takeover === `${host.id} failed`) return `${host.id} has the volume and could not start the database`;
  // To EC2 it looks as before: only the host knows that it has stopped the database and let go.
  if (takeover === `${host.id} released`) return `${host.id} has released the volume, and it was not taken away`;
  if (host.interruptedAt !== undefined && now - host.interruptedAt > NOTICE_SECONDS * 1000)
    return `AWS takes ${host.id}, and no relocation is running`;
  if (host.impaired) return `${host.id} fails EC2's status checks`;
  if (!host.verified && now - host.launchedAt > UNPROVEN_MINUTES * 60_000)
    return `${host.id} has the volume and the address, and nobody has seen it serve`;
  return undefined;
}

function whyNot(state: DatabaseState): string {
  const holder = holderOf(state);
  if (holder && isAlive(holder)) return `${holder.id} holds the volume and does not serve`;
  return 'no host serves';
}

/** One minute after the first failure, then two, four …, counted from the newest. */
function pauseEnds(failedAt: readonly number[]): number {
  if (failedAt.length === 0) return 0;
  const minutes = Math.min(2 ** (failedAt.length - 1), MOST_PAUSE_MINUTES);
  return Math.max(...failedAt) + minutes * 60_000;
}

function straysOf(state: DatabaseState, relocations: readonly string[], now: number): HostState[] {
  // While a relocation runs, its hosts are its own business, and so is the one that it leaves.
  if (relocations.length > 0) return [];
  return state.hosts
    .filter((host) => isAlive(host) || host.state === 'stopped')
    .filter((host) => host.id !== state.volume.attachment?.hostId)
    .filter((host) => now - host.launchedAt > STRAY_MINUTES * 60_000);
}
