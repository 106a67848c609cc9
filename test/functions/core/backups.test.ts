import { describe, expect, it } from 'vitest';
import { FRESH_HOURS, mayBeDue, nightly } from '../../../functions/core/backups.ts';

const at = (time: string) => Date.parse(`2026-01-05T${time}Z`);
const BACKUP = 'lighthouse-backup-2026-01-05';
const VERIFY = 'lighthouse-verify-2026-01-05';

function decide(time: string, overrides: Partial<Parameters<typeof nightly>[0]> = {}): string {
  const decision = nightly(
    { database: 'lighthouse', serves: true, usedNames: [], busy: false, ...overrides },
    at(time),
  );
  return decision.action === 'none' ? decision.reason : `${decision.action} ${decision.name}`;
}

describe('the nightly backup', () => {
  it('is due from 02:00 UTC on, once', () => {
    expect(decide('01:59:59')).toBe('nothing is due');
    expect(decide('02:00:00')).toBe(`backup ${BACKUP}`);
    expect(decide('02:01:00', { usedNames: [BACKUP] })).toBe('nothing is due');
    expect(decide('02:01:00', { usedNames: ['lighthouse-backup-2026-01-04'] })).toBe(`backup ${BACKUP}`);
  });
  it('waits for a host that serves', () => {
    expect(decide('02:30:00', { serves: false })).toBe('the nightly backup is due, and no host serves lighthouse');
  });
  it('waits for a backup that is running', () => {
    expect(decide('02:30:00', { busy: true })).toBe('a backup is running');
  });
});

describe('the verification', () => {
  it('is due at 04:00 UTC at the latest, when there was no backup to verify itself', () => {
    expect(decide('04:00:00')).toBe(`verify ${VERIFY}`);
    expect(decide('04:01:00', { usedNames: [VERIFY] })).toBe('nothing is due');
    expect(decide('04:00:00', { usedNames: [BACKUP] })).toBe('nothing is due');
  });
  it('accepts a backup of this night, and none of the night before', () => {
    const hours = (from: string, to: string) => Math.floor((Date.parse(to) - Date.parse(from)) / 3_600_000);
    expect(hours('2026-01-05T02:00Z', '2026-01-05T04:59Z')).toBeLessThan(FRESH_HOURS);
    expect(hours('2026-01-04T02:59Z', '2026-01-05T04:00Z')).toBeGreaterThanOrEqual(FRESH_HOURS);
  });
});

it('nobody has to be asked at other times', () => {
  expect(['01:59', '02:00', '02:59', '03:00', '04:00', '05:00'].map((time) => mayBeDue(at(`${time}:00`)))).toEqual([
    false,
    true,
    true,
    false,
    true,
    false,
  ]);
});
