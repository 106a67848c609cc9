import type { Host } from '../../hosts/host.ts';
import type { Instance } from './records.ts';

/**
 * Asks the guest of an instance for something.
 * @returns undefined when there is no guest that could answer: not there yet, ending, or dead
 */
export async function reachGuest<T>(instance: Instance, ask: (host: Host) => Promise<T>): Promise<T | undefined> {
  const { host } = instance;
  if (!host) return undefined;
  const answer = ask(host);
  instance.inFlight.add(answer);
  try {
    return await answer;
  } finally {
    instance.inFlight.delete(answer);
  }
}
