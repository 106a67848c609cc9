import { whyPatchFirst } from './image.ts';
import { parseInstant } from './instant.ts';
import { monthlyPatchName, returnToSpotName } from './names.ts';
import { type DatabaseState, type HostState, servingHost } from './state.ts';
import { type MaintenanceWindow, openedAt } from './window.ts';

export interface UpkeepCircumstances {
  readonly database: string;
  readonly window: MaintenanceWindow;
  /** The newest Amazon Linux 2023 for ARM. */
  readonly newestAmi: string;
  /** The container image that the next host would start. */
  readonly recordedImage: string;
  /** Names of the latest executions that concern this database, running or ended. */
  readonly usedNames: readonly string[];
  /** Whether a relocation or a runbook of this database is running. */
  readonly busy: boolean;
}

export type Upkeep =
  | { readonly action: 'none'; readonly reason: string }
  | { readonly action: 'return-to-spot'; readonly name: string; readonly reason: string }
  | { readonly action: 'patch'; readonly name: string; readonly ami: string; readonly reason: string };

/**
 * Decides which move nobody asked for would do a database good now. Pure.
 *
 * Each is tried once: a return to Spot neither twice on one day (UTC) nor twice while the window is open, which may be past
 * midnight; a patch in the same way once a month. A patch comes first, since its hosts are Spot hosts where they can be had.
 *
 * @param now milliseconds since the epoch
 */
export function upkeep(state: DatabaseState, circumstances: UpkeepCircumstances, now: number): Upkeep {
  const { database, window, newestAmi, recordedImage, usedNames, busy } = circumstances;
  const opening = openedAt(window, now);
  if (opening === undefined) return none('the maintenance window is closed');
  if (busy) return none(`something is being done to ${database} already`);
  const host = servingHost(state);
  if (!host) return none(`no host serves ${database}`);
  const trouble = troubleOf(host) ?? whyPatchFirst(database, recordedImage, host);
  if (trouble) return none(trouble);

  const unused = (name: (database: string, now: number) => string) =>
    !usedNames.includes(name(database, now)) && !usedNames.includes(name(database, opening));
  const old = host.imageId !== newestAmi;
  if (old && unused(monthlyPatchName)) {
    const reason = `${host.id} was made from ${host.imageId}, and ${newestAmi} is the newest image`;
    return { action: 'patch', name: monthlyPatchName(database, now), ami: newestAmi, reason };
  }
  const onDemand = host.lifecycle === 'on-demand';
  if (onDemand && unused(returnToSpotName)) {
    const reason = `${host.id} is on demand, and a Spot host costs less`;
    return { action: 'return-to-spot', name: returnToSpotName(database, now), reason };
  }
  if (onDemand) return none(`${host.id} is on demand, and the return to Spot has been tried`);
  if (old) return none(`${host.id} was made from an older image than ${newestAmi}, and the patch has been tried`);
  return none(`${host.id} is a Spot host made from the newest image`);
}

/** Why the host is no ground for a move that may be called off, or undefined. */
function troubleOf(host: HostState): string | undefined {
  if (host.interruptedAt !== undefined) return `AWS takes ${host.id}`;
  if (host.impaired) return `${host.id} fails EC2's status checks`;
  if (!host.verified) return `nobody has seen ${host.id} serve yet`;
  return undefined;
}

function none(reason: string): Upkeep {
  return { action: 'none', reason };
}

/** What is kept for a while. */
export interface Kept {
  /** A volume's or snapshot's id. */
  readonly id: string;
  /** The tag `keeper:expires-at`; absent when there is none. */
  readonly expiresAt?: string;
}

/**
 * Whose time has passed, and who bears no date that can be read, which is kept until a person looks. Pure.
 *
 * @param now milliseconds since the epoch
 */
export function expired<T extends Kept>(resources: readonly T[], now: number): { expired: T[]; undated: T[] } {
  const end = ({ expiresAt }: T) => parseInstant(expiresAt ?? '');
  return {
    expired: resources.filter((each) => (end(each) ?? Number.POSITIVE_INFINITY) <= now),
    undated: resources.filter((each) => end(each) === undefined),
  };
}

/** A nightly snapshot. */
export interface Backup {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly takenAt: number;
  readonly completed: boolean;
  readonly proven: boolean;
}

/**
 * The backups that stay whatever their dates say: the newest one, and the newest one that is proven. When backups have failed
 * for a month, the last good one must not go as well. Pure.
 */
export function indispensable(backups: readonly Backup[]): Set<string> {
  const complete = backups.filter(({ completed }) => completed).sort((a, b) => b.takenAt - a.takenAt);
  const spared = [complete[0], complete.find(({ proven }) => proven)];
  return new Set(spared.flatMap((each) => (each ? [each.id] : [])));
}

/** A host that looks at a clone. */
export interface ScratchHost {
  readonly id: string;
  /** The execution that launched it. */
  readonly execution: string;
  /** Milliseconds since the epoch. */
  readonly launchedAt: number;
}

/** A host that was just launched may not be known to the execution that asked for it yet. */
const SCRATCH_MINUTES = 15;

/**
 * The scratch hosts that nobody waits for. Pure.
 *
 * @param running names of the verifications that are running
 * @param now milliseconds since the epoch
 */
export function abandoned<T extends ScratchHost>(hosts: readonly T[], running: readonly string[], now: number): T[] {
  return hosts.filter(
    ({ execution, launchedAt }) => now - launchedAt > SCRATCH_MINUTES * 60_000 && !running.includes(execution),
  );
}
