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

  it('counts a termination as floor only as far as an armed host waits for the volume', () => {
    const outage = { from: 0, to: 50_000 };
    const early = floorWithin(partsOf(hostLost(10, 31), 'vol-1'), outage);
    expect(early).toBe(25_000 + 5_000);
    const late = partsOf(hostLost(40, 41), 'vol-1');
    expect(late.find(({ name }) => name === 'await the volume')).toMatchObject({ from: 30_000, to: 40_000 });
    expect(floorWithin(late, outage)).toBe(early + 10_000);
  });
});
