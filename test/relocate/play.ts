import { inject } from 'vitest';
import type { AwsError, Faults } from '../../drill/cloud/kernel.ts';
import { Simulation, type SimulationOptions } from '../../drill/simulation.ts';
import config from '../../keeper.config.ts';

/** The whole app on the virtual clock, from the moment at which the first host serves. */
export function start(options: Partial<SimulationOptions> = {}): Promise<Simulation> {
  return Simulation.start({ assembly: inject('assembly'), database: 'lighthouse', seed: 1, ...options });
}

/** EC2 has none of the configured instance types any more, until it is told otherwise. */
export function exhaust(simulation: Simulation, ...lifecycles: ('spot' | 'on-demand')[]): void {
  for (const type of config.databases['lighthouse']?.instanceTypes ?? [])
    for (const lifecycle of lifecycles) simulation.local.ec2.capacity(type, lifecycle, false);
}

/** Fails the n-th call of an operation (counted from 0), or all from..to. */
export function failCalls(operation: string, error: AwsError, from = 0, to = from): Faults {
  let count = 0;
  return {
    onCall: ({ service, operation: name }) => {
      if (`${service}:${name}` !== operation) return undefined;
      const number = count++;
      return number >= from && number <= to ? { error } : undefined;
    },
  };
}

/** Lets time pass until another host than this one has the volume. @returns that host */
export async function untilOnAnotherThan(simulation: Simulation, source: string): Promise<string> {
  const holder = () => simulation.watch.liveVolume()?.attachment?.instanceId;
  for (let passed = 0; holder() === source || !holder(); passed++) {
    if (passed > 6_000) throw new Error(`the volume does not leave ${source}`);
    await simulation.pass(0.2);
  }
  return simulation.holder;
}

/** Until a time of day, UTC. Where nothing is expected to happen before, reconcile need not be played through. */
export async function untilHour(simulation: Simulation, hour: number): Promise<void> {
  const now = simulation.clock.now();
  const at = new Date(now).setUTCHours(hour, 0, 0, 0);
  simulation.local.events.pauseSchedules();
  await simulation.pass((at > now ? at - now : at + 86_400_000 - now) / 1000);
  simulation.local.events.resumeSchedules();
}
