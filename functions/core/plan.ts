import { type DatabaseState, holderOf, isAlive } from './state.ts';

/**
 * Seconds after the notice at which the source is stopped even if nothing is armed yet. A notice can leave 108 s instead
 * of 120 s (measured: github.com/runs-on/runs-on/issues/277); release, detach and an event that came late must fit in.
 */
export const DEADLINE_SECONDS = 75;

/** How long the first replacement may take to report armed; the n-th gets n times as long, because slow days exist. */
const ARM_SECONDS = 75;
const ARM_SECONDS_MOST = 600;

/** How long a host that AWS takes, but that does not hold the database (yet), is watched: the notice is two minutes. */
const WATCH_DOOMED_SECONDS = 150;

/** What a relocation does next. */
export interface Plan {
  /**
   * `arm`: launch a replacement. `move`: no time is left to arm one, release the source now. `wait`: look again soon.
   * `nothing`: the database does not need this relocation (any more).
   */
  readonly next: 'arm' | 'move' | 'wait' | 'nothing';
  readonly reason: string;
  /** The host to move away from, if any. */
  readonly sourceId?: string;
  /** Milliseconds since the epoch. */
  readonly deadline?: number;
  /** How long the replacement may take to report armed, in whole seconds, at least 1. */
  readonly armSeconds: number;
}

export interface Wish {
  readonly execution: string;
  /** The host that is to be left; absent: whichever holds the database. */
  readonly sourceId?: string;
  /** When AWS announced that it takes the source, in milliseconds since the epoch, where the event said so. */
  readonly noticedAt?: number;
  /** 1 for the first replacement. */
  readonly attempt: number;
  /** Whether it has tried already to stop the source, ready or not. */
  readonly stopTried: boolean;
}

/**
 * Decides what a relocation does next, before and between its attempts to arm a replacement. Pure.
 *
 * @param now milliseconds since the epoch
 */
export function plan(state: DatabaseState, wish: Wish, now: number): Plan {
  const holder = holderOf(state);
  const source = wish.sourceId === undefined ? holder : state.hosts.find((host) => host.id === wish.sourceId);
  const armSeconds = Math.min(ARM_SECONDS * wish.attempt, ARM_SECONDS_MOST);
  if (holder && source?.id !== holder.id) return planForBystander(state, wish, source?.id, now, armSeconds);
  if (!holder) {
    const reason = 'no host holds the data volume';
    return { next: 'arm', reason, ...(source && { sourceId: source.id }), armSeconds };
  }
  const noticedAt = earliest(wish.noticedAt, holder.interruptedAt);
  if (noticedAt === undefined || !isAlive(holder) || wish.stopTried) {
    return { next: 'arm', reason: `${holder.id} is to be left`, sourceId: holder.id, armSeconds };
  }
  const deadline = noticedAt + DEADLINE_SECONDS * 1000;
  const left = Math.floor((deadline - now) / 1000);
  if (left < 1) {
    return {
      next: 'move',
      reason: `AWS takes ${holder.id}, and the time to arm a replacement is over`,
      sourceId: holder.id,
      deadline,
      armSeconds: 1,
    };
  }
  return {
    next: 'arm',
    reason: `AWS takes ${holder.id}`,
    sourceId: holder.id,
    deadline,
    armSeconds: Math.min(armSeconds, left),
  };
}

/** The volume is with somebody other than the host that is to be left. */
function planForBystander(
  state: DatabaseState,
  wish: Wish,
  sourceId: string | undefined,
  now: number,
  armSeconds: number,
): Plan {
  const holder = holderOf(state);
  const source = state.hosts.find((host) => host.id === sourceId);
  if (holder && !isAlive(holder)) {
    return {
      next: 'arm',
      reason: `${holder.id}, which held the database, is ${holder.state}`,
      sourceId: holder.id,
      armSeconds,
    };
  }
  const noticedAt = earliest(wish.noticedAt, source?.interruptedAt);
  const watched = source && isAlive(source) && noticedAt !== undefined && now - noticedAt < WATCH_DOOMED_SECONDS * 1000;
  return watched
    ? {
        next: 'wait',
        reason: `AWS takes ${source.id}, which may yet be given the database`,
        sourceId: source.id,
        armSeconds,
      }
    : { next: 'nothing', reason: `${holder?.id} holds the database; ${wish.sourceId} does not`, armSeconds };
}

function earliest(...times: (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
