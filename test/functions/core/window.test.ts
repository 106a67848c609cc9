import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkWindow, type Day, isOpen, type MaintenanceWindow, openedAt } from '../../../functions/core/window.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
const DAYS: readonly Day[] = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

const at = (iso: string) => Date.parse(`${iso}:00Z`);

const windows = fc.record(
  {
    days: fc.uniqueArray(fc.constantFrom(...DAYS), { minLength: 1 }),
    from: fc
      .tuple(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
      .map((parts) => parts.map((part) => String(part).padStart(2, '0')).join(':')),
    hours: fc.integer({ min: 1, max: 24 }),
  },
  { requiredKeys: ['from', 'hours'] },
);
const moments = fc.integer({ min: at('2026-01-01T00:00'), max: at('2027-01-01T00:00') });

describe('a maintenance window', () => {
  it.each<[string, MaintenanceWindow, string, boolean]>([
    ['just before', { from: '03:00', hours: 2 }, '2026-01-05T02:59', false],
    ['as it opens', { from: '03:00', hours: 2 }, '2026-01-05T03:00', true],
    ['in its last minute', { from: '03:00', hours: 2 }, '2026-01-05T04:59', true],
    ['as it closes', { from: '03:00', hours: 2 }, '2026-01-05T05:00', false],
    ['before midnight', { from: '23:00', hours: 4 }, '2026-01-05T23:59', true],
    ['after midnight', { from: '23:00', hours: 4 }, '2026-01-06T02:59', true],
    ['on its day', { days: ['sun'], from: '03:00', hours: 2 }, '2026-01-04T03:30', true],
    ['on another day', { days: ['sun'], from: '03:00', hours: 2 }, '2026-01-05T03:30', false],
    ['after the midnight of its day', { days: ['sun'], from: '23:00', hours: 4 }, '2026-01-05T01:00', true],
    ['after the midnight before its day', { days: ['sun'], from: '23:00', hours: 4 }, '2026-01-04T01:00', false],
    ['at any time, when it is open all day', { from: '12:00', hours: 24 }, '2026-01-05T11:59', true],
  ])('%s', (_, window, now, open) => {
    expect(isOpen(window, at(now))).toBe(open);
  });

  it('has opened at its time, on one of its days, no longer ago than its hours', () => {
    fc.assert(
      fc.property(windows, moments, (window, now) => {
        const opening = openedAt(window, now);
        if (opening === undefined) return;
        expect(new Date(opening).toISOString().slice(11)).toBe(`${window.from}:00.000Z`);
        expect(window.days ?? DAYS).toContain(DAYS[new Date(opening).getUTCDay()]);
        expect(now - opening).toBeGreaterThanOrEqual(0);
        expect(now - opening).toBeLessThan(window.hours * 60 * MINUTE);
      }),
    );
  });

  it('is open for its hours on each of its days', () => {
    fc.assert(
      fc.property(windows, moments, (window, start) => {
        const step = 15 * MINUTE;
        const looks = Array.from({ length: (7 * DAY) / step }, (_, index) => start + index * step);
        const open = looks.filter((now) => isOpen(window, now)).length;
        expect(open * step).toBe((window.days?.length ?? 7) * window.hours * 60 * MINUTE);
      }),
      { numRuns: 50 },
    );
  });

  it('passes when it can open', () => {
    fc.assert(
      fc.property(windows, (window) => {
        expect(checkWindow(window)).toEqual([]);
      }),
    );
  });

  it('is refused with everything that is wrong at once', () => {
    expect(checkWindow({ days: ['Sunday' as Day, 'mon'], from: '24:00', hours: 25 })).toEqual([
      'days: "Sunday" is no day of the week; write for example sun',
      'from: "24:00" is no time of day in UTC; write for example 03:00',
      'hours: 25 is not a whole number from 1 to 24; write for example 2',
    ]);
  });
});
