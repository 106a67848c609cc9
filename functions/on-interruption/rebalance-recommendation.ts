import { type EventEnvelope, instanceIdOf } from './event.ts';
import type { Notice } from './notice.ts';

export const REBALANCE_RECOMMENDATION = 'EC2 Instance Rebalance Recommendation';

/**
 * The Spot Instance is at elevated risk of interruption: there is time to move, and no deadline. It may come before, with
 * or without the interruption warning. Sample: rebalance-recommendation.sample.json.
 *
 * @throws MalformedInput
 */
export function decodeRebalanceRecommendation(event: EventEnvelope): Notice {
  return { kind: 'rebalance-recommendation', instanceId: instanceIdOf(event) };
}
