import { asPerson } from './person.ts';
import type { Scenario } from './scenario.ts';

/** Somebody powers the serving host off, and nobody is told before. */
export const hostLost: Scenario = {
  name: 'host-lost',
  what: 'the serving host is powered off without any notice',
  beginning: 'the loss',
  work: 'relocation',
  workflow: 'relocate',
  crashes: true,
  longestMoveSeconds: 240,
  sabotages: ['corrupt-takeover'],
  outcome: 'The host was lost',
  async begin({ stage, source }) {
    await asPerson(stage, 'ec2', 'TerminateInstances', { InstanceIds: [source], SkipOsShutdown: true });
    return async ({ holder }) =>
      holder === source || holder === '' ? ['the relocation succeeded, and no other host holds the volume'] : [];
  },
};
