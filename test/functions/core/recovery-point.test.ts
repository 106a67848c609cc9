import { describe, expect, it } from 'vitest';
import { type RecoveryPoint, resolvePoint } from '../../../functions/core/recovery-point.ts';
import { NOW } from './build.ts';

const HOUR = 3_600_000;
const [OLD, NEW, PENDING] = ['snap-00000000000000001', 'snap-00000000000000002', 'snap-00000000000000003'];

function point(id: string, overrides: Partial<RecoveryPoint> = {}): RecoveryPoint {
  return { id, state: 'completed', takenAt: NOW - HOUR, ...overrides };
}

const POINTS = [
  point(OLD, { takenAt: NOW - 25 * HOUR, provenAt: '2026-01-04T12:00:00.000Z' }),
  point(PENDING, { takenAt: NOW - 60_000, state: 'pending' }),
  point(NEW),
];

function resolve(wanted: string, points: readonly RecoveryPoint[] = POINTS, freshHours?: number): string {
  const result = resolvePoint(points, { database: 'lighthouse', wanted, ...(freshHours && { freshHours }) }, NOW);
  return 'point' in result ? result.point.id : result.refusal;
}

describe('a recovery point', () => {
  it.each([
    ['latest', NEW],
    ['latest-proven', OLD],
    [OLD, OLD],
    ['2026-01-05T10:59:59Z', OLD],
    ['2026-01-05T11:00:00Z', NEW],
    ['2026-01-05T12:00:00Z', NEW],
  ])('%s is found', (wanted, id) => {
    expect(resolve(wanted)).toBe(id);
  });

  it.each<[string, string, readonly RecoveryPoint[]]>([
    ['latest', 'lighthouse has no recovery point; start keeper-backup', []],
    [
      'latest',
      `lighthouse has no completed recovery point, and ${PENDING} is still pending; try again when it has completed`,
      [point(PENDING, { state: 'pending' })],
    ],
    [
      'latest-proven',
      'no recovery point of lighthouse is proven; write latest, or start keeper-verify-backup first',
      [point(NEW)],
    ],
    [PENDING, `${PENDING} is still pending; try again when it has completed`, POINTS],
    [
      'snap-0123456789abcdef0',
      'snap-0123456789abcdef0 is no snapshot of lighthouse; write one that is tagged keeper:database=lighthouse',
      POINTS,
    ],
    [NEW, `${NEW} is in the state error and holds nothing; write another one`, [point(NEW, { state: 'error' })]],
    [
      '2026-01-04T10:59:59Z',
      'lighthouse has no recovery point as old as 2026-01-04T10:59:59Z; the oldest is of 2026-01-04T11:00:00.000Z',
      POINTS,
    ],
    [
      'yesterday',
      'recoveryPoint: "yesterday" is no recovery point; write latest, latest-proven, a snapshot\'s id, or a moment like 2026-01-05T11:00:00.000Z',
      POINTS,
    ],
  ])('%s is refused: %s', (wanted, refusal, points) => {
    expect(resolve(wanted, points)).toBe(refusal);
  });

  it('that is to be fresh is refused when no backup has completed lately', () => {
    expect(resolve('latest', POINTS, 26)).toBe(NEW);
    const old = [point(OLD, { takenAt: NOW - 31.5 * HOUR })];
    expect(resolve('latest', old, 26)).toBe(
      `the newest recovery point of lighthouse, ${OLD}, is 31 hours old: no backup has completed since 2026-01-04T04:30:00.000Z; see the executions of keeper-backup`,
    );
  });
});
