import { MalformedInput } from '../core/errors.ts';
import { type EventEnvelope, instanceIdOf } from './event.ts';
import type { Notice } from './notice.ts';

export const STATE_CHANGE = 'EC2 Instance State-change Notification';

/** States in which an instance serves no longer. */
const ENDING_STATES = ['stopping', 'stopped', 'shutting-down', 'terminated'];

/**
 * An instance ends, by whomever: there is nothing to wait for. That of an interrupted Spot Instance follows its warning.
 * Sample: state-change.sample.json.
 *
 * @throws MalformedInput
 */
export function decodeStateChange(event: EventEnvelope): Notice {
  const { state } = event.detail;
  if (typeof state !== 'string' || !ENDING_STATES.includes(state)) {
    throw new MalformedInput(`${STATE_CHANGE}: detail.state is ${JSON.stringify(state)}`);
  }
  return { kind: 'host-lost', instanceId: instanceIdOf(event) };
}
