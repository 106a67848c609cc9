import { describe, expect, it } from 'vitest';
import { type Action, decide, type Goal, type Observed } from '../../../functions/core/decide.ts';
import type { HostState, VolumeState } from '../../../functions/core/state.ts';
import {
  attachedTo,
  EXECUTION,
  host,
  NOW,
  observed,
  release,
  SOURCE,
  source,
  TARGET,
  target,
  volume,
} from './build.ts';

const GOAL: Goal = { execution: EXECUTION, sourceId: SOURCE, targetId: TARGET };

function action(state: Observed, goal: Goal = GOAL, now = NOW): string {
  const { action } = decide(state, goal, now);
  return 'host' in action ? `${action.kind} ${action.host.id}` : action.kind;
}

describe('a relocation to an armed host', () => {
  it('releases the source first', () => {
    expect(action(observed())).toBe(`release ${SOURCE}`);
  });
  it('waits while the release runs', () => {
    expect(action(observed({ release: release('running') }))).toBe('wait');
  });
  it('detaches when the source has released the volume', () => {
    expect(action(observed({ release: release('succeeded') }))).toBe(`detach ${SOURCE}`);
  });
  it('waits while the volume leaves', () => {
    expect(action(observed({ volume: attachedTo(SOURCE, 'detaching'), release: release('succeeded') }))).toBe('wait');
  });
  it('attaches the free volume to the target', () => {
    expect(action(observed({ volume: volume() }))).toBe(`attach ${TARGET}`);
  });
  it('moves the address while the volume is still on its way', () => {
    expect(action(observed({ volume: attachedTo(TARGET, 'attaching') }))).toBe(`assign-address ${TARGET}`);
  });
  it('is done when the target has both', () => {
    const hosts = [source({ hasAddress: false }), target({ hasAddress: true })];
    expect(action(observed({ volume: attachedTo(TARGET), hosts }))).toBe(`done ${TARGET}`);
  });
  it('does not ask again for what it has just asked for', () => {
    expect(action(observed({ volume: volume(), asked: { attach: NOW - 1_000 } }))).toBe('wait');
    expect(action(observed({ volume: volume(), asked: { attach: NOW - 4_000 } }))).toBe(`attach ${TARGET}`);
  });
});

describe('a source that does not let go', () => {
  it('is fenced when its release has failed', () => {
    const decision = decide(observed({ release: release('failed') }), GOAL, NOW);
    expect(decision.action).toMatchObject({ kind: 'fence', host: { id: SOURCE } });
    expect(decision.reason).toContain('what the command said');
  });
  it('is fenced when its agent does not take the release in time', () => {
    const state = observed({ release: release('waiting', { sentAt: NOW - 41_000 }) });
    expect(action(state)).toBe(`fence ${SOURCE}`);
  });
  it('is asked again, and fenced at last, when its agent is not there to take the release', () => {
    const refused = (ms: number) => observed({ release: release('refused', { sentAt: NOW - ms }) });
    expect(action(refused(20_000))).toBe(`release ${SOURCE}`);
    expect(action(refused(41_000))).toBe(`fence ${SOURCE}`);
  });
  it('may take longer once the release runs', () => {
    expect(action(observed({ release: release('running', { sentAt: NOW - 41_000 }) }))).toBe('wait');
    expect(action(observed({ release: release('running', { sentAt: NOW - 111_000 }) }))).toBe(`fence ${SOURCE}`);
  });
  it('is fenced when the volume has been leaving for a minute and a half', () => {
    const leaving = observed({
      volume: attachedTo(SOURCE, 'busy'),
      release: release('succeeded'),
      asked: { detach: NOW - 91_000 },
    });
    expect(action(leaving)).toBe(`fence ${SOURCE}`);
  });
  it('is fenced when another relocation has begun to detach and nothing came of it', () => {
    const leaving = observed({ volume: attachedTo(SOURCE, 'busy') });
    expect(action(leaving, { ...GOAL, startedAt: NOW - 91_000 })).toBe(`fence ${SOURCE}`);
  });
  it('does not keep a replacement from being launched while the volume leaves it', () => {
    expect(action(observed({ volume: attachedTo(SOURCE, 'detaching'), hosts: [source()] }))).toBe('replace');
  });
  it('is left alone as long as nothing is there to take over', () => {
    expect(action(observed({ hosts: [source()], release: release('failed') }))).toBe('replace');
  });
});

describe("a source that fails EC2's status checks", () => {
  const goal: Goal = { ...GOAL, fenceSource: true };
  it('is ended once a host is there to take over, and asked for nothing', () => {
    expect(action(observed(), goal)).toBe(`fence ${SOURCE}`);
    expect(action(observed({ hosts: [source(), target({ state: 'pending' })] }), goal)).toBe('wait');
    expect(action(observed({ hosts: [source()] }), goal)).toBe('replace');
  });
  it('is waited for while it ends', () => {
    expect(action(observed({ hosts: [source({ state: 'shutting-down' }), target()] }), goal)).toBe('wait');
  });
});

describe('a source that nothing forces to go', () => {
  const goal: Goal = { ...GOAL, mayStay: true };
  it.each([
    ['its agent is not there', release('refused', { sentAt: NOW - 41_000 })],
    ['the command did not reach it', release('undelivered')],
    ['the command is still on its way', release('waiting', { sentAt: NOW - 41_000 })],
  ])('is left alone when %s', (_, each) => {
    expect(action(observed({ release: each }), goal)).toBe('call-off');
    expect(action(observed({ release: each }), GOAL)).toBe(`fence ${SOURCE}`);
  });
  it('has to go all the same once it has begun to release', () => {
    expect(action(observed({ release: release('failed') }), goal)).toBe(`fence ${SOURCE}`);
  });
});

describe('going back to the host that served before', () => {
  const BACK: Goal = { execution: EXECUTION, sourceId: TARGET, targetId: SOURCE };
  it('takes the volume and the address from the new host like any other move', () => {
    const there = observed({ volume: attachedTo(TARGET) });
    expect(action(there, BACK)).toBe(`release ${TARGET}`);
    expect(action({ ...there, release: release('succeeded') }, BACK)).toBe(`detach ${TARGET}`);
    expect(action({ ...there, volume: volume() }, BACK)).toBe(`attach ${SOURCE}`);
  });
  it('does not wait for the agent of a new host that did not serve', () => {
    const refused = observed({ volume: attachedTo(TARGET), release: release('refused') });
    expect(action(refused, BACK)).toBe(`release ${TARGET}`);
    expect(action(refused, { ...BACK, sourceFailed: true })).toBe(`fence ${TARGET}`);
  });
  it('waits for the volume to leave it before it comes back', () => {
    const goal: Goal = { execution: EXECUTION, targetId: SOURCE, startedAt: NOW };
    expect(action(observed({ volume: attachedTo(SOURCE, 'detaching') }), goal)).toBe('wait');
    expect(action(observed({ volume: volume() }), goal)).toBe(`attach ${SOURCE}`);
    const stuck = { ...goal, startedAt: NOW - 91_000 };
    expect(action(observed({ volume: attachedTo(SOURCE, 'busy') }), stuck)).toBe('replace');
  });
});

describe('without an armed host', () => {
  const goal: Goal = { execution: EXECUTION, sourceId: SOURCE };
  it('lets the source serve before the deadline', () => {
    expect(action(observed({ hosts: [source()] }), { ...goal, deadline: NOW + 1 })).toBe('replace');
    expect(action(observed({ hosts: [source()] }), goal)).toBe('replace');
  });
  it('releases the source at the deadline: a clean stop beats a crash', () => {
    expect(action(observed({ hosts: [source()] }), { ...goal, deadline: NOW })).toBe(`release ${SOURCE}`);
  });
  it('frees the released volume, and asks for a host then', () => {
    const state = observed({ hosts: [source()], release: release('succeeded') });
    expect(action(state, { ...goal, deadline: NOW })).toBe(`detach ${SOURCE}`);
    expect(action({ ...state, volume: volume() }, { ...goal, deadline: NOW })).toBe('replace');
  });
  it('takes the newest host that it launched, as soon as that runs', () => {
    const older = host('i-older', { execution: EXECUTION, launchedAt: NOW - 90_000 });
    const starting = target({ state: 'pending' });
    expect(action(observed({ volume: volume(), hosts: [source(), older, starting] }), goal)).toBe('wait');
    expect(action(observed({ volume: volume(), hosts: [source(), older, target()] }), goal)).toBe(`attach ${TARGET}`);
  });
  it('stays with the host that has the volume already, however new another one is', () => {
    const newer = host('i-newer', { execution: EXECUTION, launchedAt: NOW });
    const hosts = [target({ hasAddress: true }), newer];
    expect(action(observed({ volume: attachedTo(TARGET), hosts }), goal)).toBe(`done ${TARGET}`);
  });
  it("never takes another relocation's host", () => {
    const other = host('i-other', { execution: 'another' });
    expect(action(observed({ volume: volume(), hosts: [source(), other] }), goal)).toBe('replace');
  });
});

describe('a world that has moved on', () => {
  it('asks for another host when the target dies with the volume', () => {
    const dead = observed({ volume: attachedTo(TARGET), hosts: [target({ state: 'shutting-down' })] });
    expect(action(dead)).toBe('replace');
  });
  it('waits for EC2 when the source dies and the target lives', () => {
    expect(action(observed({ hosts: [source({ state: 'shutting-down' }), target()] }))).toBe('wait');
  });
  it('detaches from a stopped source without a release', () => {
    expect(action(observed({ hosts: [source({ state: 'stopped' }), target()] }))).toBe(`detach ${SOURCE}`);
  });
  it('stands back when another relocation has brought the volume elsewhere', () => {
    const hosts = [source(), target(), host('i-other', { execution: 'another' })];
    expect(action(observed({ volume: attachedTo('i-other'), hosts }))).toBe('superseded');
  });
  it('refuses a volume that is attached to a stranger', () => {
    const decision = decide(observed({ volume: attachedTo('i-stranger') }), GOAL, NOW);
    expect(decision).toEqual({
      action: { kind: 'refuse' },
      reason:
        'the data volume vol-1 is attached to i-stranger, which is not a host of this database: detach it there first',
    });
  });
  it('refuses a volume that is gone', () => {
    expect(action(observed({ volume: volume(undefined, { state: 'deleting' }) }))).toBe('refuse');
  });
});

describe('in every state there is', () => {
  const states: HostState['state'][] = ['pending', 'running', 'shutting-down', 'terminated', 'stopping', 'stopped'];
  const attachments = ['attaching', 'attached', 'detaching', 'busy'] as const;
  const volumes: VolumeState[] = [
    volume(),
    ...[SOURCE, TARGET, 'i-other', 'i-stranger'].flatMap((id) => attachments.map((state) => attachedTo(id, state))),
    ...(['creating', 'deleting', 'deleted', 'error'] as const).map((state) => volume(undefined, { state })),
  ];
  const releases = [
    undefined,
    ...(['refused', 'undelivered', 'waiting', 'running', 'succeeded', 'failed'] as const).flatMap((status) =>
      [1_000, 200_000].map((age) => release(status, { sentAt: NOW - age })),
    ),
  ];
  const goals: Goal[] = [
    GOAL,
    { execution: EXECUTION, sourceId: SOURCE },
    { execution: EXECUTION },
    { ...GOAL, deadline: NOW - 1 },
    { execution: EXECUTION, sourceId: SOURCE, deadline: NOW - 1 },
    { ...GOAL, fenceSource: true },
    { ...GOAL, mayStay: true },
    { execution: EXECUTION, sourceId: TARGET, targetId: SOURCE, sourceFailed: true },
    { execution: EXECUTION, targetId: SOURCE },
  ];

  function* everyState(): Generator<[Observed, Goal]> {
    for (const vol of volumes)
      for (const sourceState of [undefined, ...states])
        for (const targetState of [undefined, ...states])
          for (const hasAddress of [true, false])
            for (const each of releases)
              for (const goal of goals) {
                const hosts = [
                  host('i-other', { execution: 'another' }),
                  ...(sourceState ? [source({ state: sourceState, hasAddress })] : []),
                  ...(targetState ? [target({ state: targetState, hasAddress: !hasAddress })] : []),
                ];
                yield [{ volume: vol, hosts, asked: {}, ...(each && { release: each }) }, goal];
              }
  }

  function holderId(state: Observed): string | undefined {
    return state.volume.attachment?.hostId;
  }

  it.each<[string, Action['kind'], (state: Observed, hostId: string, goal: Goal) => boolean]>([
    [
      'attaches only a free volume, to a running host',
      'attach',
      (state, id) => !state.volume.attachment && state.hosts.find((h) => h.id === id)?.state === 'running',
    ],
    [
      'detaches only from the holder, released or stopped',
      'detach',
      (state, id) =>
        holderId(state) === id &&
        (state.release?.status === 'succeeded' || state.hosts.find((h) => h.id === id)?.state === 'stopped'),
    ],
    [
      'gives the address only to the host that holds the volume',
      'assign-address',
      (state, id) => holderId(state) === id,
    ],
    ['releases only the holder', 'release', (state, id) => holderId(state) === id],
    [
      'fences only a holder that did not let go or fails its status checks, and only with a host to take over',
      'fence',
      (state, id, { fenceSource }) =>
        holderId(state) === id &&
        (state.release !== undefined || fenceSource === true) &&
        state.hosts.some((h) => h.id === (id === TARGET ? SOURCE : TARGET)),
    ],
  ])('%s', (_, kind, holds) => {
    let seen = 0;
    for (const [state, goal] of everyState()) {
      const { action, reason } = decide(state, goal, NOW);
      if (reason === '') throw new Error(`no reason: ${JSON.stringify({ state, goal })}`);
      if (action.kind !== kind || !('host' in action)) continue;
      seen++;
      if (action.host.id === 'i-other' || !holds(state, action.host.id, goal)) {
        throw new Error(`${kind} ${action.host.id}: ${JSON.stringify({ state, goal })}`);
      }
    }
    expect(seen).toBeGreaterThan(0);
  });
});
