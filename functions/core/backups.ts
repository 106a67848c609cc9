import { backupName, verificationName } from './names.ts';
import { isOpen } from './window.ts';

export interface BackupCircumstances {
  readonly database: string;
  /** Whether a host serves, as far as one can see. */
  readonly serves: boolean;
  /** Names of the latest executions of the backup and the verification of this database. */
  readonly usedNames: readonly string[];
  /** Whether a backup is running. A verification keeps nobody from it: it may take half a day, and is on a host of its own. */
  readonly busy: boolean;
}

export type BackupDecision =
  | { readonly action: 'none'; readonly reason: string }
  | { readonly action: 'backup' | 'verify'; readonly name: string; readonly reason: string };

/** The hour in which the nightly backup starts, UTC; a host that is just moving is waited for. */
const BACKUP = { from: '02:00', hours: 1 };
/** By then a backup is proven, or the newest one is verified without it: silence would be no proof. */
const LATEST = { from: '04:00', hours: 1 };
/** How old the newest recovery point may be then, in whole hours: younger than one of the night before. */
export const FRESH_HOURS = 4;

/**
 * Decides whether a backup or a verification is due. Each has one name a day (UTC), so that neither happens twice. Pure.
 *
 * @param now milliseconds since the epoch
 */
export function nightly({ database, serves, usedNames, busy }: BackupCircumstances, now: number): BackupDecision {
  const backup = backupName(database, now);
  const verification = verificationName(database, now);
  if (busy) return { action: 'none', reason: 'a backup is running' };
  if (isOpen(BACKUP, now) && !usedNames.includes(backup)) {
    return serves
      ? { action: 'backup', name: backup, reason: 'the nightly backup is due' }
      : { action: 'none', reason: `the nightly backup is due, and no host serves ${database}` };
  }
  const done = usedNames.includes(backup) || usedNames.includes(verification);
  if (isOpen(LATEST, now) && !done) {
    return {
      action: 'verify',
      name: verification,
      reason: 'there was no backup this night: the newest one is verified',
    };
  }
  return { action: 'none', reason: 'nothing is due' };
}

/** Whether it can be time for one of them at all, so that nobody has to be asked at other times. */
export function mayBeDue(now: number): boolean {
  return isOpen(BACKUP, now) || isOpen(LATEST, now);
}
