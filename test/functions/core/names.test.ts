import { describe, expect, it } from 'vitest';
import {
  backupName,
  mayConcern,
  monthlyPatchName,
  recoveryName,
  relocationName,
  returnToSpotName,
  verificationName,
} from '../../../functions/core/names.ts';
import { NOW } from './build.ts';

const HOST = 'i-0123456789abcdef0';

function namesOf(database: string): string[] {
  return [
    relocationName(database, HOST),
    `${relocationName(database, HOST)}-again`,
    recoveryName(database, NOW),
    backupName(database, NOW),
    verificationName(database, NOW),
    `${database}-scale-up-2026-01-05T1200`,
    `${database}-verify-snap-0123456789abcdef0`,
    returnToSpotName(database, NOW),
    monthlyPatchName(database, NOW),
  ];
}

describe('the names of executions', () => {
  it('tell the database, what is done, and when', () => {
    expect(namesOf('lighthouse')).toEqual([
      'lighthouse-i-0123456789abcdef0',
      'lighthouse-i-0123456789abcdef0-again',
      'lighthouse-recover-2026-01-05T1200',
      'lighthouse-backup-2026-01-05',
      'lighthouse-verify-2026-01-05',
      'lighthouse-scale-up-2026-01-05T1200',
      'lighthouse-verify-snap-0123456789abcdef0',
      'lighthouse-spot-2026-01-05',
      'lighthouse-patch-2026-01',
    ]);
  });

  it('are attributed to their own database, however databases are named', () => {
    const databases = ['a', 'a-spot', 'a-patch', 'a-scale-up', 'a-scale', 'a-recover', 'a-i-0', 'a-spot-2026-01-05'];
    for (const database of databases) {
      for (const name of namesOf(database)) {
        expect([name, databases.filter((each) => mayConcern(each, name))]).toEqual([name, [database]]);
      }
    }
  });

  it('may concern every database when a person has chosen them', () => {
    for (const name of ['c5f3e3de-8a37-4a3f-9a6e-2d6c1d2f7b7a', 'friday', 'a-spot', 'a-patch-me'])
      expect(mayConcern('a', name)).toBe(true);
  });

  it('are no longer than Step Functions allows', () => {
    for (const name of namesOf('x'.repeat(40))) expect(name.length).toBeLessThanOrEqual(80);
  });
});
