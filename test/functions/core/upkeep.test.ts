import { describe, expect, it } from 'vitest';
import type { DatabaseState, HostState } from '../../../functions/core/state.ts';
import {
  abandoned,
  type Backup,
  expired,
  indispensable,
  type Upkeep,
  type UpkeepCircumstances,
  upkeep,
} from '../../../functions/core/upkeep.ts';
import { databaseState, NOW, SOURCE, source } from './build.ts';

const OLD = 'ami-0000000000000000a';
const NEW = 'ami-0000000000000000b';
const IMAGE = 'timescale/timescaledb:2.19.3-pg16';
const OTHER_IMAGE = 'timescale/timescaledb:2.20.0-pg16';

const at = (iso: string) => Date.parse(`${iso}:00Z`);

/** Noon is in the window, and the host is as it should be. */
function circumstances(overrides: Partial<UpkeepCircumstances> = {}): UpkeepCircumstances {
  return {
    database: 'lighthouse',
    window: { from: '11:00', hours: 2 },
    newestAmi: OLD,
    recordedImage: IMAGE,
    usedNames: [],
    busy: false,
    ...overrides,
  };
}

function servedBy(overrides: Partial<HostState> = {}): DatabaseState {
  return databaseState({ hosts: [source({ imageId: OLD, ...overrides })] });
}

const onDemand = servedBy({ lifecycle: 'on-demand' });

describe('upkeep', () => {
  it('leaves a Spot host that was made from the newest image alone', () => {
    expect(upkeep(servedBy(), circumstances(), NOW)).toEqual({
      action: 'none',
      reason: `${SOURCE} is a Spot host made from the newest image`,
    });
  });

  it('returns from on-demand to Spot', () => {
    expect(upkeep(onDemand, circumstances(), NOW)).toEqual({
      action: 'return-to-spot',
      name: 'lighthouse-spot-2026-01-05',
      reason: `${SOURCE} is on demand, and a Spot host costs less`,
    });
  });

  it('patches a host that was made from an older image', () => {
    expect(upkeep(servedBy(), circumstances({ newestAmi: NEW }), NOW)).toEqual({
      action: 'patch',
      name: 'lighthouse-patch-2026-01',
      ami: NEW,
      reason: `${SOURCE} was made from ${OLD}, and ${NEW} is the newest image`,
    });
  });

  it('patches first, since that brings a Spot host, too', () => {
    expect(upkeep(onDemand, circumstances({ newestAmi: NEW }), NOW).action).toBe('patch');
    const patched = circumstances({ newestAmi: NEW, usedNames: ['lighthouse-patch-2026-01'] });
    expect(upkeep(onDemand, patched, NOW).action).toBe('return-to-spot');
  });

  it.each<[string, DatabaseState, Partial<UpkeepCircumstances>, string]>([
    ['outside the window', onDemand, { window: { from: '03:00', hours: 2 } }, 'the maintenance window is closed'],
    ['while something is running', onDemand, { busy: true }, 'something is being done to lighthouse already'],
    ['while no host serves', databaseState({ hosts: [] }), {}, 'no host serves lighthouse'],
    ['while AWS takes the host', servedBy({ lifecycle: 'on-demand', interruptedAt: NOW }), {}, `AWS takes ${SOURCE}`],
    [
      'while the host is impaired',
      servedBy({ lifecycle: 'on-demand', impaired: true }),
      {},
      `${SOURCE} fails EC2's status checks`,
    ],
    [
      'before the host has proven itself',
      servedBy({ lifecycle: 'on-demand', verified: false }),
      {},
      `nobody has seen ${SOURCE} serve yet`,
    ],
    [
      'when the next host would start another image',
      servedBy({ lifecycle: 'on-demand', image: IMAGE }),
      { newestAmi: NEW, recordedImage: OTHER_IMAGE },
      `lighthouse runs ${IMAGE}, and ${OTHER_IMAGE} is what its next host would start; start keeper-patch first, which takes a snapshot and goes back when it does not serve`,
    ],
    [
      'when Spot has been tried today',
      onDemand,
      { usedNames: ['lighthouse-spot-2026-01-05'] },
      `${SOURCE} is on demand, and the return to Spot has been tried`,
    ],
    [
      'when the patch has been tried this month',
      servedBy(),
      { newestAmi: NEW, usedNames: ['lighthouse-patch-2026-01'] },
      `${SOURCE} was made from an older image than ${NEW}, and the patch has been tried`,
    ],
  ])('does nothing %s', (_, state, overrides, reason) => {
    expect(upkeep(state, circumstances(overrides), NOW)).toEqual({ action: 'none', reason });
  });

  it("does not take another database's name for its own", () => {
    const usedNames = [
      'lighthouse-b-spot-2026-01-05',
      'lighthouse-spot-2026-01-04',
      'lighthouse-patch-2026-01-05T1130',
    ];
    expect(upkeep(onDemand, circumstances({ usedNames }), NOW).action).toBe('return-to-spot');
    expect(upkeep(onDemand, circumstances({ usedNames, newestAmi: NEW }), NOW).action).toBe('patch');
  });
});

describe('upkeep in a window past midnight', () => {
  /** Looks every ten minutes; each move that is started fails, so that the next look would want it again. */
  function startedFrom(
    from: string,
    to: string,
    window: UpkeepCircumstances['window'],
    state: DatabaseState,
  ): Upkeep[] {
    const usedNames: string[] = [];
    const started: Upkeep[] = [];
    for (let now = at(from); now < at(to); now += 600_000) {
      const decided = upkeep(state, circumstances({ window, usedNames }), now);
      if (decided.action === 'none') continue;
      started.push(decided);
      usedNames.push(decided.name);
    }
    return started;
  }
  const nights = { from: '23:00', hours: 4 };

  it('tries Spot once a night', () => {
    const started = startedFrom('2026-01-05T22:00', '2026-01-08T22:00', nights, onDemand);
    expect(started).toMatchObject([
      { name: 'lighthouse-spot-2026-01-05' },
      { name: 'lighthouse-spot-2026-01-06' },
      { name: 'lighthouse-spot-2026-01-07' },
    ]);
  });

  it('tries Spot never twice on one date, when the first time was after midnight', () => {
    const started = startedFrom('2026-01-06T00:30', '2026-01-08T22:00', nights, onDemand);
    expect(started).toMatchObject([{ name: 'lighthouse-spot-2026-01-06' }, { name: 'lighthouse-spot-2026-01-07' }]);
  });

  it('tries Spot once a day when the window is always open', () => {
    const started = startedFrom('2026-01-05T11:50', '2026-01-08T11:50', { from: '12:00', hours: 24 }, onDemand);
    expect(started.length).toBeLessThanOrEqual(3);
    expect(started.length).toBeGreaterThan(1);
  });

  it('does not patch on both sides of the midnight between two months', () => {
    const old = servedBy({ imageId: NEW });
    const started = startedFrom('2026-01-31T22:00', '2026-02-01T22:00', nights, old);
    expect(started).toMatchObject([{ name: 'lighthouse-patch-2026-01' }]);
    const later = startedFrom('2026-01-31T22:00', '2026-02-03T22:00', nights, old);
    expect(later).toMatchObject([{ name: 'lighthouse-patch-2026-01' }, { name: 'lighthouse-patch-2026-02' }]);
  });
});

describe('what is kept for a while', () => {
  it('has expired when its time has passed', () => {
    const past = { id: 'snap-past', expiresAt: '2026-01-05T11:59:59Z' };
    const now = { id: 'snap-now', expiresAt: '2026-01-05T12:00:00.000Z' };
    const future = { id: 'snap-future', expiresAt: '2026-01-05T12:00:00.001Z' };
    expect(expired([past, now, future], NOW)).toEqual({ expired: [past, now], undated: [] });
  });

  it.each([
    undefined,
    '',
    '1',
    '0',
    'yesterday',
    '2025-01-05',
    '2025-02-30T00:00:00Z',
    '2025-01-05T25:00:00Z',
    '2025-01-05T12:00:00',
    '2025-01-05T12:00:00+02:00',
    '1736078400000',
  ])('is kept and named when its date is %j', (expiresAt) => {
    const resource = { id: 'snap-1', ...(expiresAt !== undefined && { expiresAt }) };
    expect(expired([resource], NOW)).toEqual({ expired: [], undated: [resource] });
  });
});

describe('a scratch host', () => {
  const QUARTER_HOUR = 15 * 60_000;
  const host = (execution: string, launchedAt: number) => ({ id: `i-${execution}`, execution, launchedAt });

  it('is abandoned when its verification does not run any more, a while after its launch', () => {
    const over = host('over', NOW - QUARTER_HOUR - 1);
    const hosts = [over, host('running', NOW - 10 * QUARTER_HOUR), host('young', NOW - QUARTER_HOUR)];
    expect(abandoned(hosts, ['running'], NOW)).toEqual([over]);
  });
});

describe('backups', () => {
  const backup = (id: string, takenAt: number, overrides: Partial<Backup> = {}): Backup => {
    return { id, takenAt, completed: true, proven: false, ...overrides };
  };
  it('are kept beyond their time when there is no newer one, or no newer proven one', () => {
    const all = [
      backup('older', 1, { proven: true }),
      backup('proven', 2, { proven: true }),
      backup('newest', 3),
      backup('failed', 4, { completed: false }),
    ];
    expect(indispensable(all)).toEqual(new Set(['newest', 'proven']));
    expect(indispensable([])).toEqual(new Set());
  });
});
