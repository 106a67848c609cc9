import { type DatabaseState, type HostState, holderOf, isAlive } from './state.ts';

/** How the release command on the present holder stands. */
export interface ReleaseState {
  /**
   * `refused`: Systems Manager did not take it, because the agent of the host is not there (yet). `undelivered`: it took it
   * and could not hand it over in time.
   */
  readonly status: 'refused' | 'undelivered' | 'waiting' | 'running' | 'succeeded' | 'failed';
  /** When it was first tried, in milliseconds since the epoch. */
  readonly sentAt: number;
  /** What the command said, or what Systems Manager said of it. */
  readonly detail: string;
}

/** Everything that a decision rests on. */
export interface Observed extends DatabaseState {
  /** The release command that this relocation sent to the holder; absent when it has sent none. */
  readonly release?: ReleaseState;
  /**
   * When this loop last asked for each action (milliseconds since the epoch): what was just asked for is not asked for
   * again before EC2's describe calls can show it.
   */
  readonly asked: Readonly<Partial<Record<Action['kind'], number>>>;
}

/** Where the volume and the address are to be. */
export interface Goal {
  /** The relocation's name; hosts that it launched carry it as a tag. */
  readonly execution: string;
  /** The host to move away from; absent when there was none. */
  readonly sourceId?: string;
  /** The armed host to move to. Absent: the newest host that this relocation launched, armed or not. */
  readonly targetId?: string;
  /** When this relocation last looked around, in milliseconds since the epoch: waiting without an end is counted from here. */
  readonly startedAt?: number;
  /**
   * Milliseconds since the epoch after which the source is stopped cleanly even though nothing is ready to take over,
   * because AWS is about to take it. Absent: the source serves until a replacement is ready.
   */
  readonly deadline?: number;
  /** EC2's status checks of the source fail: it is not asked to release anything but terminated, once a target runs. */
  readonly fenceSource?: boolean;
  /** The source did not serve: its agent, which on a new host comes late, is not waited for. */
  readonly sourceFailed?: boolean;
  /** Nothing forces the source to go: it is left alone when it has not even begun to release. */
  readonly mayStay?: boolean;
}

export type Action =
  /** Stop PostgreSQL on the host, unmount the volume. */
  | { readonly kind: 'release'; readonly host: HostState }
  /** Terminate the host without waiting for its operating system, so that it can no longer write. */
  | { readonly kind: 'fence'; readonly host: HostState }
  | { readonly kind: 'detach'; readonly host: HostState }
  | { readonly kind: 'attach'; readonly host: HostState }
  | { readonly kind: 'assign-address'; readonly host: HostState }
  | { readonly kind: 'wait' }
  /** The goal holds. */
  | { readonly kind: 'done'; readonly host: HostState }
  /** No host to move to: one has to be launched first. */
  | { readonly kind: 'replace' }
  /** Somebody else has moved the database on; nothing is left to do here. */
  | { readonly kind: 'superseded' }
  /** The source serves on, and nothing has been done to it. */
  | { readonly kind: 'call-off' }
  /** It would be wrong to go on. */
  | { readonly kind: 'refuse' };

export interface Decision {
  readonly action: Action;
  /** One sentence for the log and for the person who reads it. */
  readonly reason: string;
}

/**
 * How long an action that was asked for may stay invisible before it is asked for again. EC2's describe calls are
 * eventually consistent; most changes show within a second.
 */
const SETTLE_MS = 3_000;

/**
 * How long Systems Manager may take to start the release command. 30 s is the shortest delivery timeout that SendCommand
 * accepts (API reference, TimeoutSeconds); the database keeps serving meanwhile.
 */
export const RELEASE_DELIVERY_SECONDS = 30;
/**
 * How long the release may run: the sum of what release.sh allows its steps. A stop with 512 MB of dirty buffers took 13 s
 * on gp3's baseline.
 */
export const RELEASE_EXECUTION_SECONDS = 70;
/** Status changes of a command reach ListCommandInvocations late. */
const RELEASE_REPORT_MS = 10_000;
/** EBS detaches in 1–4 s, and never while the guest holds the device. A minute and a half is beyond patience. */
const DETACH_LIMIT_MS = 90_000;

/**
 * The heart of every relocation: what to do next so that the volume and the address come to the target. Pure: the same
 * observation, goal and time give the same decision, so a crashed loop that starts again continues where it was.
 *
 * It never moves a volume away from a host that is neither the goal's source nor launched by this relocation, and it
 * never detaches from a running host that has not released the volume: such a host is fenced by termination.
 *
 * @param now milliseconds since the epoch
 */
export function decide(observed: Observed, goal: Goal, now: number): Decision {
  const { volume } = observed;
  if (volume.state === 'deleting' || volume.state === 'deleted' || volume.state === 'error') {
    return refuse(`the data volume ${volume.id} is ${volume.state}`);
  }
  if (volume.state === 'creating') return wait(`the data volume ${volume.id} is being created`);

  const target = chooseTarget(observed, goal);
  const attachment = volume.attachment;
  if (!attachment) return placeVolume(observed, target, now);

  const holder = holderOf(observed);
  if (!holder) {
    return refuse(
      `the data volume ${volume.id} is attached to ${attachment.hostId}, which is not a host of this database: detach it there first`,
    );
  }
  if (holder.id === target?.id) {
    if (attachment.state === 'attaching' || attachment.state === 'attached')
      return settleOn(holder, attachment.state, observed, now);
    // It is to come back to where it is coming from; if it does not leave first, another host is needed.
    const stuck = whyStuck(observed, goal, holder, now);
    return stuck ? decision({ kind: 'replace' }, stuck) : wait(`the volume is leaving ${holder.id}`);
  }
  if (holder.id !== goal.sourceId && holder.execution !== goal.execution) {
    if (isAlive(holder)) {
      return decision({ kind: 'superseded' }, `the database is on ${holder.id}, where another relocation brought it`);
    }
    return wait(`${holder.id} is ${holder.state}: EC2 is about to give the volume back`);
  }
  return freeVolume(observed, goal, holder, target, now);
}

/** The host to move to, if there is one that can still take over. */
function chooseTarget(observed: Observed, goal: Goal): HostState | undefined {
  const usable = observed.hosts.filter((host) => isAlive(host) && host.id !== goal.sourceId);
  if (goal.targetId) return usable.find((host) => host.id === goal.targetId);
  // The one that has the volume already is not left for one that came later.
  const holder = usable.find(
    (host) => host.id === observed.volume.attachment?.hostId && host.execution === goal.execution,
  );
  if (holder) return holder;
  return usable.filter((host) => host.execution === goal.execution).sort((a, b) => b.launchedAt - a.launchedAt)[0];
}

/** Nobody holds the volume. */
function placeVolume(observed: Observed, target: HostState | undefined, now: number): Decision {
  if (!target) return decision({ kind: 'replace' }, 'the volume is free, and no host is there to take it');
  if (target.state === 'pending')
    return wait(`${target.id} is starting: EC2 attaches volumes to running instances only`);
  return once({ kind: 'attach', host: target }, observed, now, `the volume is free and ${target.id} is waiting for it`);
}

/** The target holds the volume, or is about to. */
function settleOn(target: HostState, attachment: 'attaching' | 'attached', observed: Observed, now: number): Decision {
  // The address follows as soon as nobody else can get the volume: it travels while the host mounts and starts.
  if (!target.hasAddress) {
    return once(
      { kind: 'assign-address', host: target },
      observed,
      now,
      `${target.id} has the volume, and not yet the address`,
    );
  }
  if (attachment === 'attaching') return wait(`the volume is on its way to ${target.id}`);
  return decision({ kind: 'done', host: target }, `${target.id} has the volume and the address`);
}

/** Somebody holds the volume from whom it may be taken. */
function freeVolume(
  observed: Observed,
  goal: Goal,
  holder: HostState,
  target: HostState | undefined,
  now: number,
): Decision {
  const detaching = observed.volume.attachment?.state === 'detaching' || observed.volume.attachment?.state === 'busy';
  if (holder.state === 'stopped') {
    return detaching
      ? wait(`the volume is leaving ${holder.id}`)
      : once({ kind: 'detach', host: holder }, observed, now, `${holder.id} is stopped: nothing writes`);
  }
  if (!isAlive(holder)) {
    const why = `${holder.id} is ${holder.state}: EC2 gives the volume back when that has ended`;
    return target ? wait(why) : decision({ kind: 'replace' }, why);
  }
  if (detaching) {
    if (!target)
      return decision({ kind: 'replace' }, `the volume is leaving ${holder.id}, and no host is there to take it`);
    const stuck = whyStuck(observed, goal, holder, now);
    return stuck
      ? once({ kind: 'fence', host: holder }, observed, now, stuck)
      : wait(`the volume is leaving ${holder.id}`);
  }
  const { release } = observed;
  if (release?.status === 'succeeded') {
    return once({ kind: 'detach', host: holder }, observed, now, `${holder.id} has released the volume`);
  }
  if (goal.fenceSource && holder.id === goal.sourceId && target?.state === 'running') {
    const why = `${holder.id} fails EC2's status checks: it is ended, so that it can no longer write`;
    return once({ kind: 'fence', host: holder }, observed, now, why);
  }
  const givenUp = release && giveUpRelease(release, holder, goal, now);
  if (release && givenUp && goal.mayStay && holder.id === goal.sourceId && !hasBegun(release))
    return decision({ kind: 'call-off' }, givenUp);
  // Without a host to take over nothing is won by killing the one that may still serve.
  if (givenUp)
    return target
      ? once({ kind: 'fence', host: holder }, observed, now, givenUp)
      : decision({ kind: 'replace' }, givenUp);
  if (release && release.status !== 'refused') return wait(`${holder.id} is releasing the volume`);
  if (target?.state === 'running')
    return once({ kind: 'release', host: holder }, observed, now, `${target.id} is ready to take over`);
  if (goal.deadline !== undefined && now >= goal.deadline) {
    return once(
      { kind: 'release', host: holder },
      observed,
      now,
      `AWS takes ${holder.id}, and a clean stop beats a crash`,
    );
  }
  if (target) return wait(`${target.id} is starting; ${holder.id} serves meanwhile`);
  return decision({ kind: 'replace' }, `no host is there to take over; ${holder.id} serves meanwhile`);
}

/** Why a volume that is leaving a host is not waited for any longer, or undefined. */
function whyStuck(observed: Observed, goal: Goal, holder: HostState, now: number): string | undefined {
  const since = observed.asked.detach ?? observed.release?.sentAt ?? goal.startedAt ?? now;
  return now - since > DETACH_LIMIT_MS
    ? `the volume has not left ${holder.id} for ${seconds(now - since)} s`
    : undefined;
}

/** Why the release command is not waited for any longer, or undefined. */
function giveUpRelease(release: ReleaseState, holder: HostState, goal: Goal, now: number): string | undefined {
  if (release.status === 'undelivered') return `${holder.id} did not get the release command: ${release.detail}`;
  if (release.status === 'failed') return `${holder.id} could not release the volume: ${release.detail}`;
  if (release.status === 'refused' && goal.sourceFailed && holder.id === goal.sourceId)
    return `${holder.id} did not serve, and its agent is not there to release the volume`;
  const limit =
    RELEASE_DELIVERY_SECONDS * 1000 +
    (release.status === 'running' ? RELEASE_EXECUTION_SECONDS * 1000 : 0) +
    RELEASE_REPORT_MS;
  if (now - release.sentAt <= limit) return undefined;
  return `${holder.id} has not answered the release command for ${seconds(now - release.sentAt)} s`;
}

/** Whether the release may have stopped the database. */
function hasBegun({ status }: ReleaseState): boolean {
  return status === 'running' || status === 'succeeded' || status === 'failed';
}

function once(action: Extract<Action, { host: HostState }>, observed: Observed, now: number, reason: string): Decision {
  const asked = observed.asked[action.kind];
  return asked !== undefined && now - asked < SETTLE_MS ? wait(`asked for: ${action.kind}`) : decision(action, reason);
}

function wait(reason: string): Decision {
  return decision({ kind: 'wait' }, reason);
}

function refuse(reason: string): Decision {
  return decision({ kind: 'refuse' }, reason);
}

function decision(action: Action, reason: string): Decision {
  return { action, reason };
}

function seconds(ms: number): number {
  return Math.round(ms / 1000);
}
