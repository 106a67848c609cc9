import { describe, expect, it } from 'vitest';
import { type Circumstances, reconcile } from '../../../functions/core/reconcile.ts';
import { attachedTo, databaseState, host, NOW, SOURCE, source, volume } from './build.ts';

const MINUTE = 60_000;

function circumstances(overrides: Partial<Circumstances> = {}): Circumstances {
  return { relocations: [], failedAt: [], takeover: `${SOURCE} serves`, ...overrides };
}

describe('reconcile', () => {
  it('does nothing while a host serves', () => {
    expect(reconcile(databaseState(), circumstances(), NOW)).toEqual({
      action: 'none',
      reason: `${SOURCE} serves`,
      strays: [],
    });
  });
  it('starts the first host of a new database', () => {
    const state = { volume: volume(undefined, { blank: true }), hosts: [] };
    expect(reconcile(state, circumstances(), NOW)).toMatchObject({ action: 'relocate', reason: 'no host serves' });
  });
  it.each([
    ['is gone', databaseState({ hosts: [source({ state: 'terminated' })] }), 'no host serves'],
    [
      'has lost the address',
      databaseState({ hosts: [source({ hasAddress: false })] }),
      `${SOURCE} holds the volume and does not serve`,
    ],
  ])('relocates when the host %s', (_, state, reason) => {
    expect(reconcile(state, circumstances(), NOW)).toMatchObject({ action: 'relocate', reason });
  });
  it('relocates when the host says that it could not start the database', () => {
    const failed = circumstances({ takeover: `${SOURCE} failed` });
    expect(reconcile(databaseState(), failed, NOW)).toMatchObject({
      action: 'relocate',
      reason: `${SOURCE} has the volume and could not start the database`,
    });
  });
  it.each([
    [
      'has released the volume, and nobody took it',
      {},
      `${SOURCE} released`,
      'has released the volume, and it was not taken away',
    ],
    ["fails EC2's status checks", { impaired: true }, `${SOURCE} serves`, "fails EC2's status checks"],
  ] as const)('relocates when the host %s', (_, overrides, takeover, reason) => {
    const state = databaseState({ hosts: [source(overrides)] });
    expect(reconcile(state, circumstances({ takeover }), NOW)).toMatchObject({
      action: 'relocate',
      reason: `${SOURCE} ${reason}`,
    });
  });
  it('relocates when AWS takes the host and the notice has started nothing', () => {
    const noticed = (seconds: number) => databaseState({ hosts: [source({ interruptedAt: NOW - seconds * 1000 })] });
    expect(reconcile(noticed(5), circumstances(), NOW).action).toBe('none');
    expect(reconcile(noticed(15), circumstances(), NOW)).toMatchObject({
      action: 'relocate',
      reason: `AWS takes ${SOURCE}, and no relocation is running`,
    });
    expect(reconcile(noticed(15), circumstances({ relocations: ['lighthouse-i-1'] }), NOW).action).toBe('none');
  });
  it('relocates when nobody has seen the host serve since it was launched, five minutes and more ago', () => {
    const unproven = (minutes: number) =>
      databaseState({ hosts: [source({ verified: false, launchedAt: NOW - minutes * MINUTE })] });
    expect(reconcile(unproven(4), circumstances(), NOW).action).toBe('none');
    expect(reconcile(unproven(6), circumstances(), NOW)).toMatchObject({
      action: 'relocate',
      reason: `${SOURCE} has the volume and the address, and nobody has seen it serve`,
    });
  });
  it('leaves a relocation that is running alone', () => {
    const state = databaseState({ hosts: [source({ state: 'terminated' })] });
    expect(reconcile(state, circumstances({ relocations: ['lighthouse-i-1'] }), NOW)).toMatchObject({
      action: 'none',
      reason: 'lighthouse-i-1 is running',
    });
  });
  it('pauses longer after each failure, and goes on', () => {
    const state = { volume: volume(), hosts: [] };
    const afterFailures = (...minutesAgo: number[]) =>
      reconcile(state, circumstances({ failedAt: minutesAgo.map((minutes) => NOW - minutes * MINUTE) }), NOW).action;
    expect(afterFailures(0.5)).toBe('none');
    expect(afterFailures(1)).toBe('relocate');
    expect(afterFailures(1, 3)).toBe('none');
    expect(afterFailures(2, 4)).toBe('relocate');
    expect(afterFailures(14, 20, 30, 40, 50, 59)).toBe('none');
    expect(afterFailures(15, 20, 30, 40, 50, 59)).toBe('relocate');
  });
});

describe('a stray host', () => {
  const stray = host('i-stray', { launchedAt: NOW - 16 * MINUTE });
  const withStray = databaseState({ hosts: [source(), stray] });
  it('that serves nothing and that nobody waits for is ended', () => {
    expect(reconcile(withStray, circumstances(), NOW).strays).toEqual([stray]);
  });
  it('may still be waited for when it is young, or a relocation is running', () => {
    const young = databaseState({ hosts: [source(), host('i-young', { launchedAt: NOW - 14 * MINUTE })] });
    expect(reconcile(young, circumstances(), NOW).strays).toEqual([]);
    expect(reconcile(withStray, circumstances({ relocations: ['lighthouse-i-1'] }), NOW).strays).toEqual([]);
  });
  it('is never the one that holds the volume, whether it serves or not', () => {
    const state = databaseState({ volume: attachedTo(SOURCE), hosts: [source({ hasAddress: false })] });
    expect(reconcile(state, circumstances(), NOW).strays).toEqual([]);
  });
});
