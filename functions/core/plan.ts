import { type DatabaseState, type HostState, holderOf, isAlive } from './state.ts';

/**
 * Seconds after the notice at which the source is stopped even if nothing is armed yet. A notice can leave 108 s instead
 * of 120 s (measured: github.com/runs-on/runs-on/issues/277); release, detach and an event that came late must fit in.
 */
export const DEADLINE_SECONDS = 75;

/** How long the first replacement may take to report armed; the n-th gets n times as long, because slow days exist. */
const ARM_SECONDS = 75;
const ARM_SECONDS_MOST = 600;
/**
 * The most while a host serves that AWS may yet take: a notice that comes while a replacement is being armed is seen only
 * afterwards, and then there must be time for a clean stop.
 */
const ARM_SECONDS_WHILE_SERVING = 90;

/** How long a host that AWS takes, but that does not hold the database (yet), is watched: the notice is two minutes. */
const WATCH_DOOMED_SECONDS = 150;

/** Replacements of a planned move that may fail before it is called off. */
const PLANNED_ATTEMPTS = 3;

/** What a relocation does next. */
export interface Plan {
  /**
   * `arm`: launch a replacement. `move`: no time is left to arm one, release the source now. `back`: the new host does not
   * serve, so the volume goes back to the one that did. `wait`: look again soon. `nothing`: the database does not need this
   * relocation (any more). `call-off`: it cannot be had as planned, and nothing has been changed. `refuse`: the volume is
   * where Keeper must not touch it.
   */
  readonly next: 'arm' | 'move' | 'back' | 'wait' | 'nothing' | 'call-off' | 'refuse';
  readonly reason: string;
  /** Whether the next replacement is made as this relocation wants it, or as hosts of the database are made otherwise. */
  readonly hosts: 'wanted' | 'recorded';
  /** For `back`: the host to go back to. */
  readonly targetId?: string;
  /** Set when the source fails EC2's status checks, so that it is terminated instead of being asked to release. */
  readonly fenceSource?: true;
  /** The host to move away from, if any. */
  readonly sourceId?: string;
  /** Whether that host runs and holds the volume, so that it can write its buffers meanwhile. */
  readonly sourceServes: boolean;
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
  /** Set when nothing forces this move: it may be called off as long as its source serves, and goes back where it can. */
  readonly planned?: {
    /** The host that served when it began; absent when none did. */
    readonly wayBackId?: string;
    readonly wayBackTried: boolean;
    /** Whether that host was asked to release, and so may have stopped the database. */
    readonly disturbed: boolean;
  };
}

/** What follows from the state alone, whether the move was planned or not. */
type Course = Omit<Plan, 'hosts' | 'targetId'>;

/**
 * Decides what a relocation does next, before and between its attempts to arm a replacement. Pure.
 *
 * @param now milliseconds since the epoch
 */
export function plan(state: DatabaseState, wish: Wish, now: number): Plan {
  const course = planCourse(state, wish, now);
  if (!wish.planned || (course.next !== 'arm' && course.next !== 'move')) return { ...course, hosts: 'wanted' };
  const { wayBackId, wayBackTried, disturbed } = wish.planned;
  const wayBack = state.hosts.find((host) => host.id === wayBackId);
  const holder = holderOf(state);
  // What has not taken the database back is a host like any other.
  if (wayBack && isSound(wayBack) && !wayBackTried) {
    const holds = holder?.id === wayBack.id && state.volume.attachment?.state === 'attached';
    // As far as one can see from here, it serves.
    if (holds && !disturbed) {
      return wish.attempt > PLANNED_ATTEMPTS
        ? { ...course, hosts: 'wanted', next: 'call-off', reason: `${wayBack.id} serves on, nothing has been changed` }
        : { ...course, hosts: 'wanted' };
    }
    if (!holds && wish.attempt > 1) {
      const reason = `the new host does not serve: the volume goes back to ${wayBack.id}`;
      return { ...course, hosts: 'recorded', next: 'back', reason, targetId: wayBack.id };
    }
  }
  // It has to end on some host now, and what was wanted has had its chance.
  return { ...course, hosts: wish.attempt === 1 ? 'wanted' : 'recorded' };
}

/** Whether a host runs, and nothing is known that would end it. */
function isSound(host: HostState): boolean {
  return host.state === 'running' && host.interruptedAt === undefined && !host.impaired;
}

function planCourse(state: DatabaseState, wish: Wish, now: number): Course {
  const { attachment } = state.volume;
  const holder = holderOf(state);
  const armSeconds = Math.min(ARM_SECONDS * wish.attempt, ARM_SECONDS_MOST);
  if (attachment && !holder) {
    const reason = `the data volume ${state.volume.id} is attached to ${attachment.hostId}, which is not a host of this database: detach it there`;
    return { next: 'refuse', reason, sourceServes: false, armSeconds };
  }
  const source = wish.sourceId === undefined ? holder : state.hosts.find((host) => host.id === wish.sourceId);
  if (!holder) {
    const reason = 'no host holds the data volume';
    return { next: 'arm', reason, ...(source && { sourceId: source.id }), sourceServes: false, armSeconds };
  }
  const wished = source?.id === holder.id;
  // Another relocation may have brought the database to a host that AWS takes: then that one is to be left, too.
  const doomed = isAlive(holder) && (holder.interruptedAt !== undefined || holder.impaired === true);
  if (!wished && !doomed) return planForBystander(holder, source, wish, now, armSeconds);
  if (!isAlive(holder)) {
    return {
      next: 'arm',
      reason: `${holder.id} is ${holder.state}`,
      sourceId: holder.id,
      sourceServes: false,
      armSeconds,
    };
  }
  if (holder.impaired) {
    const reason = `${holder.id} fails EC2's status checks`;
    return { next: 'arm', reason, sourceId: holder.id, sourceServes: false, fenceSource: true, armSeconds };
  }
  const leaving = {
    sourceId: holder.id,
    sourceServes: true,
    armSeconds: Math.min(armSeconds, ARM_SECONDS_WHILE_SERVING),
  };
  const noticedAt = earliest(wished ? wish.noticedAt : undefined, holder.interruptedAt);
  if (noticedAt === undefined) return { next: 'arm', reason: `${holder.id} is to be left`, ...leaving };
  if (wish.stopTried)
    return {
      next: 'arm',
      reason: `${holder.id} did not stop at the deadline`,
      ...leaving,
      sourceServes: false,
      armSeconds,
    };
  const deadline = noticedAt + DEADLINE_SECONDS * 1000;
  const left = Math.floor((deadline - now) / 1000);
  return left < 1
    ? {
        next: 'move',
        reason: `AWS takes ${holder.id}, and the time to arm a replacement is over`,
        deadline,
        ...leaving,
        armSeconds: 1,
      }
    : {
        next: 'arm',
        reason: `AWS takes ${holder.id}`,
        deadline,
        ...leaving,
        armSeconds: Math.min(leaving.armSeconds, left),
      };
}

/** The volume is with somebody other than the host that is to be left. */
function planForBystander(
  holder: HostState,
  source: HostState | undefined,
  wish: Wish,
  now: number,
  armSeconds: number,
): Course {
  if (!isAlive(holder)) {
    const reason = `${holder.id}, which held the database, is ${holder.state}`;
    return { next: 'arm', reason, sourceId: holder.id, sourceServes: false, armSeconds };
  }
  const noticedAt = earliest(wish.noticedAt, source?.interruptedAt);
  const watched = source && isAlive(source) && noticedAt !== undefined && now - noticedAt < WATCH_DOOMED_SECONDS * 1000;
  const rest = { sourceServes: false, armSeconds };
  return watched
    ? {
        next: 'wait',
        reason: `AWS takes ${source.id}, which may yet be given the database`,
        sourceId: source.id,
        ...rest,
      }
    : { next: 'nothing', reason: `${holder.id} holds the database; ${wish.sourceId} does not`, ...rest };
}

function earliest(...times: (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
