import { describe, expect, it } from 'vitest';
import { plan } from '../../../functions/core/plan.ts';
import type { HostState } from '../../../functions/core/state.ts';
import { attachedTo, databaseState, EXECUTION, host, NOW, SOURCE, source, TARGET, target, volume } from './build.ts';

const WISH = { execution: EXECUTION, sourceId: SOURCE, attempt: 1, stopTried: false };

describe('what a relocation does next', () => {
  it('arms a replacement until 75 s after the notice', () => {
    expect(plan(databaseState(), { ...WISH, noticedAt: NOW - 5_000 }, NOW)).toMatchObject({
      next: 'arm',
      sourceId: SOURCE,
      deadline: NOW + 70_000,
      armSeconds: 70,
    });
  });
  it('counts from the notice and not from its arrival', () => {
    expect(plan(databaseState(), { ...WISH, noticedAt: NOW - 15_000 }, NOW).armSeconds).toBe(60);
  });
  it('moves without a replacement once the deadline has passed', () => {
    expect(plan(databaseState(), { ...WISH, noticedAt: NOW - 75_000 }, NOW)).toMatchObject({
      next: 'move',
      sourceId: SOURCE,
    });
  });
  it('arms a replacement after all when the source did not stop at the deadline', () => {
    const wish = { ...WISH, noticedAt: NOW - 90_000, stopTried: true };
    expect(plan(databaseState(), wish, NOW)).toMatchObject({ next: 'arm', sourceId: SOURCE, armSeconds: 75 });
  });
  it('learns the deadline from the host when the notice came after the recommendation that started it', () => {
    const state = databaseState({ hosts: [source({ interruptedAt: NOW - 30_000 })] });
    expect(plan(state, WISH, NOW)).toMatchObject({ next: 'arm', deadline: NOW + 45_000, armSeconds: 45 });
  });
  it('has no deadline when nothing ends the source', () => {
    expect(plan(databaseState(), WISH, NOW)).toEqual({
      next: 'arm',
      reason: `${SOURCE} is to be left`,
      sourceId: SOURCE,
      sourceServes: true,
      armSeconds: 75,
      hosts: 'wanted',
    });
  });
  it('gives later replacements more time, but not so much that a notice could not be answered', () => {
    expect(plan(databaseState(), { ...WISH, attempt: 4 }, NOW).armSeconds).toBe(90);
  });
  it('gives later replacements much more time when no host serves any longer', () => {
    const nobody = { volume: volume(), hosts: [] };
    expect(plan(nobody, { ...WISH, attempt: 4 }, NOW).armSeconds).toBe(300);
    expect(plan(nobody, { ...WISH, attempt: 40 }, NOW).armSeconds).toBe(600);
  });
  it('refuses a volume that is attached to a stranger, before anything is launched', () => {
    expect(plan({ volume: attachedTo('i-stranger'), hosts: [source()] }, WISH, NOW)).toMatchObject({
      next: 'refuse',
      reason: 'the data volume vol-1 is attached to i-stranger, which is not a host of this database: detach it there',
    });
  });
  it('leaves whichever host holds the volume when no source is named', () => {
    expect(plan(databaseState(), { execution: EXECUTION, attempt: 1, stopTried: false }, NOW)).toMatchObject({
      next: 'arm',
      sourceId: SOURCE,
    });
  });
  it('arms the first host of a database that has none', () => {
    expect(
      plan({ volume: volume(), hosts: [] }, { execution: EXECUTION, attempt: 1, stopTried: false }, NOW),
    ).toMatchObject({
      next: 'arm',
      reason: 'no host holds the data volume',
    });
  });
  it('arms at once when the holder is already gone', () => {
    const state = databaseState({ hosts: [source({ state: 'terminated' })] });
    expect(plan(state, { ...WISH, noticedAt: NOW - 130_000 }, NOW)).toMatchObject({ next: 'arm', armSeconds: 75 });
  });
  it('does nothing when the database has left the source', () => {
    const state = { volume: attachedTo('i-next'), hosts: [source(), host('i-next')] };
    expect(plan(state, WISH, NOW)).toMatchObject({
      next: 'nothing',
      reason: `i-next holds the database; ${SOURCE} does not`,
    });
  });
  it('does nothing when the source is unknown and another host holds the volume', () => {
    const state = { volume: attachedTo('i-next'), hosts: [host('i-next')] };
    expect(plan(state, { ...WISH, noticedAt: NOW }, NOW).next).toBe('nothing');
  });
  it('watches a doomed host that may yet be given the database', () => {
    const state = { volume: attachedTo('i-next'), hosts: [source(), host('i-next')] };
    expect(plan(state, { ...WISH, noticedAt: NOW - 10_000 }, NOW).next).toBe('wait');
    expect(plan(state, { ...WISH, noticedAt: NOW - 151_000 }, NOW).next).toBe('nothing');
  });
  it('leaves a doomed host to which another relocation has brought the database', () => {
    const next = host('i-next', { interruptedAt: NOW - 10_000 });
    expect(plan({ volume: attachedTo('i-next'), hosts: [source(), next] }, WISH, NOW)).toMatchObject({
      next: 'arm',
      sourceId: 'i-next',
      deadline: NOW + 65_000,
    });
  });
});

describe("a source that fails EC2's status checks", () => {
  const failing = source({ impaired: true });
  it('is left, and ended instead of being asked to release', () => {
    expect(plan(databaseState({ hosts: [failing] }), WISH, NOW)).toMatchObject({
      next: 'arm',
      reason: `${SOURCE} fails EC2's status checks`,
      sourceServes: false,
      fenceSource: true,
    });
  });
  it('is left also when another host was to be left', () => {
    const state = { volume: attachedTo('i-next'), hosts: [source(), host('i-next', { impaired: true })] };
    expect(plan(state, WISH, NOW)).toMatchObject({ next: 'arm', sourceId: 'i-next', fenceSource: true });
  });
});

describe('a planned move', () => {
  const PLANNED = { ...WISH, planned: { wayBackId: SOURCE, wayBackTried: false, disturbed: false } };
  const failed = (overrides: Partial<HostState> = {}) => ({
    volume: attachedTo(TARGET),
    hosts: [source({ hasAddress: false, ...overrides }), target({ hasAddress: true })],
  });

  it('begins like any other', () => {
    const first = { ...WISH, planned: { wayBackTried: false, disturbed: false } };
    expect(plan(databaseState(), first, NOW)).toMatchObject({ next: 'arm', sourceId: SOURCE, hosts: 'wanted' });
  });
  it('is tried three times while the source serves, and called off then', () => {
    expect(plan(databaseState(), { ...PLANNED, attempt: 3 }, NOW)).toMatchObject({ next: 'arm', hosts: 'wanted' });
    expect(plan(databaseState(), { ...PLANNED, attempt: 4 }, NOW)).toMatchObject({
      next: 'call-off',
      reason: `${SOURCE} serves on, nothing has been changed`,
    });
  });
  it('is not called off once the source was asked to release: it may have stopped', () => {
    const planned = { wayBackId: SOURCE, wayBackTried: false, disturbed: true };
    expect(plan(databaseState(), { ...PLANNED, planned, attempt: 4 }, NOW)).toMatchObject({
      next: 'arm',
      hosts: 'recorded',
    });
  });
  it('goes back to the source when the new host does not serve', () => {
    expect(plan(failed(), { ...PLANNED, sourceId: TARGET, attempt: 2 }, NOW)).toMatchObject({
      next: 'back',
      sourceId: TARGET,
      targetId: SOURCE,
      reason: `the new host does not serve: the volume goes back to ${SOURCE}`,
    });
  });
  it('goes back also when the new host is lost and nobody holds the volume, or it is just leaving the source', () => {
    const wish = { ...PLANNED, attempt: 2 };
    expect(plan(databaseState({ volume: volume() }), wish, NOW)).toMatchObject({ next: 'back', targetId: SOURCE });
    const leaving = databaseState({ volume: attachedTo(SOURCE, 'detaching') });
    expect(plan(leaving, wish, NOW)).toMatchObject({ next: 'back', targetId: SOURCE });
  });
  it('goes back once, and takes a host as they were before then', () => {
    const wish = {
      ...PLANNED,
      sourceId: TARGET,
      attempt: 3,
      planned: { wayBackId: SOURCE, wayBackTried: true, disturbed: true },
    };
    expect(plan(failed(), wish, NOW)).toMatchObject({ next: 'arm', hosts: 'recorded' });
    // It has the volume again, and does not serve either.
    expect(plan(databaseState(), { ...wish, sourceId: SOURCE }, NOW)).toMatchObject({ next: 'arm', hosts: 'recorded' });
  });
  it.each<[string, Partial<HostState>]>([
    ['AWS takes', { interruptedAt: NOW - 1_000 }],
    ["fails EC2's status checks", { impaired: true }],
    ['is gone', { state: 'terminated' }],
    ['is stopped', { state: 'stopped' }],
  ])('does not go back to a source that %s', (_, overrides) => {
    const wish = { ...PLANNED, sourceId: TARGET, attempt: 2 };
    expect(plan(failed(overrides), wish, NOW)).toMatchObject({ next: 'arm', hosts: 'recorded' });
  });
  it('is called off no longer once AWS takes the source: then any host will do after the first', () => {
    const state = databaseState({ hosts: [source({ interruptedAt: NOW - 1_000 })] });
    expect(plan(state, { ...PLANNED, attempt: 1 }, NOW)).toMatchObject({ next: 'arm', hosts: 'wanted' });
    expect(plan(state, { ...PLANNED, attempt: 9 }, NOW)).toMatchObject({ next: 'arm', hosts: 'recorded' });
  });
  it('is over when another relocation has moved the database', () => {
    const state = { volume: attachedTo('i-next'), hosts: [source(), host('i-next')] };
    expect(plan(state, PLANNED, NOW).next).toBe('nothing');
  });
});
