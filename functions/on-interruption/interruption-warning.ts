import { MalformedInput } from '../core/errors.ts';
import { type EventEnvelope, instanceIdOf, timeOf } from './event.ts';
import type { Notice } from './notice.ts';

export const INTERRUPTION_WARNING = 'EC2 Spot Instance Interruption Warning';

/**
 * AWS takes a Spot Instance in about two minutes. Only `detail.instance-id` names the instance: the ARN in `resources`
 * has the zone where other ARNs have the region, and no account. Sample: interruption-warning.sample.json.
 *
 * @throws MalformedInput
 */
export function decodeInterruptionWarning(event: EventEnvelope): Notice {
  const action = event.detail['instance-action'];
  // `stop` and `hibernate` end the host for the database just as `terminate` does.
  if (action !== 'terminate' && action !== 'stop' && action !== 'hibernate') {
    throw new MalformedInput(`${INTERRUPTION_WARNING}: detail.instance-action is ${JSON.stringify(action)}`);
  }
  return { kind: 'interruption-warning', instanceId: instanceIdOf(event), noticedAt: timeOf(event) };
}
