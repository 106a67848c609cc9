import { describe, expect, it } from 'vitest';
import type { Happening } from '../../drill/cloud/kernel.ts';
import { floorWithin, partsOf } from '../../drill/story.ts';

/** @param at seconds */
function happening(at: number, kind: string, subject: string, detail: Record<string, unknown>): Happening {
  return { at: at * 1000, kind, subject, detail };
}

function step(name: string, startedAtSeconds: number, seconds: number) {
  return { name, startedAtSeconds, seconds };
}

/** A host is lost at 0 s, and EC2 gives its volume back at `goneAt`; the next one is armed at 30 s. */
function hostLost(goneAt: number, attachAt: number): Happening[] {
  const armed = [step('install-docker', 15, 6), step('pull-image', 21, 8), step('report-armed', 29, 1)];
  return [
    happening(0, 'instance-state', 'i-lost', { state: 'shutting-down' }),
    happening(2, 'instance-state', 'i-vain', { state: 'pending' }),
    happening(4, 'instance-state', 'i-next', { state: 'pending' }),
    happening(5, 'instance-state', 'i-vain', { state: 'running' }),
    happening(8, 'instance-state', 'i-next', { state: 'running' }),
    happening(goneAt, 'volume-attachment', 'vol-root', { state: 'detached', instanceId: 'i-lost' }),
    happening(goneAt, 'volume-attachment', 'vol-1', { state: 'detached', instanceId: 'i-lost' }),
    happening(attachAt, 'volume-attachment', 'vol-1', { state: 'attaching', instanceId: 'i-next' }),
    happening(attachAt + 2, 'volume-attachment', 'vol-1', { state: 'attached', instanceId: 'i-next' }),
    happening(attachAt + 5, 'takeover', 'i-next', {
      steps: [...armed, step('mount', attachAt + 2, 0.5), step('start-database', attachAt + 2.5, 2.5)],
    }),
  ];
}

describe('what a drill consisted of', () => {
  it('tells launch and boot of the host that then served, and of no other', () => {
    const parts = partsOf(hostLost(10, 31), 'vol-1');
    expect(parts.map(({ name, from, to }) => `${name} ${from / 1000}-${to / 1000}`)).toEqual([
      'terminate 0-10',
      'launch 4-8',
      'boot 8-15',
      'install-docker 15-21',
      'pull-image 21-29',
      'attach 31-33',
      'mount 33-33.5',
      'start-database 33.5-36',
    ]);
  });

  it('tells of a backup its census, its snapshot and what its scratch host took, none of it as floor', () => {
    const report = { checks: [{ name: 'recovery', seconds: 2 }], seconds: 30 };
    const parts = partsOf(
      [
        happening(1, 'command', 'c-1', { document: 'keeper-census', phase: 'delivered' }),
        happening(3, 'command', 'c-1', { document: 'keeper-census', phase: 'ended' }),
        happening(4, 'snapshot', 'snap-1', { state: 'pending' }),
        happening(10, 'instance-state', 'i-scratch', { state: 'pending' }),
        happening(14, 'snapshot', 'snap-1', { state: 'completed' }),
        happening(15, 'instance-state', 'i-scratch', { state: 'running' }),
        happening(41, 'output', 'i-scratch', { line: 'prove: mount took 1.000 s' }),
        happening(44, 'output', 'i-scratch', { line: 'prove: recovery took 2.000 s' }),
        happening(50, 'output', 'i-scratch', { line: 'prove: pages took 9.000 s' }),
        happening(52, 'output', 'i-scratch', { line: 'prove: rows took 0.100 s' }),
        happening(54, 'call', 'states:SendTaskSuccess', {
          caller: 'i-scratch',
          input: { output: JSON.stringify(report) },
        }),
      ],
      'vol-1',
    );
    expect(parts.map(({ name, from, to }) => `${name} ${from / 1000}-${to / 1000}`)).toEqual([
      'census 1-3',
      'snapshot 4-14',
      'launch scratch host 10-15',
      'boot scratch host 15-24',
      'install-docker, pull-image 24-40',
      'recovery 42-44',
      'checks 44-52',
    ]);
    expect(floorWithin(parts, { from: 0, to: 60_000 })).toBe(0);
  });

  it('counts a termination as floor only as far as an armed host waits for the volume', () => {
    const outage = { from: 0, to: 50_000 };
    const early = floorWithin(partsOf(hostLost(10, 31), 'vol-1'), outage);
    expect(early).toBe(25_000 + 5_000);
    const late = partsOf(hostLost(40, 41), 'vol-1');
    expect(late.find(({ name }) => name === 'await the volume')).toMatchObject({ from: 30_000, to: 40_000 });
    expect(floorWithin(late, outage)).toBe(early + 10_000);
  });
});
