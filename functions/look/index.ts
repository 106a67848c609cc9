import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client } from '@aws-sdk/client-ec2';
import middy from '@middy/core';
import { VolumeUnusable } from '../core/errors.ts';
import { type Plan, plan } from '../core/plan.ts';
import type { Database } from '../shared/database.ts';
import { withImpairment } from '../shared/impairment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/relocate.ts, state "Look" */
export interface LookInput {
  readonly database: Database;
  readonly execution: string;
  readonly attempt: number;
  readonly source?: string;
  /** ISO 8601 */
  readonly noticedAt?: string;
  /** Whether this relocation has tried already to stop the source. */
  readonly stopTried: boolean;
  /** Set for a move that nothing forces. */
  readonly planned: false | { readonly wayBackId: string; readonly wayBackTried: boolean; readonly disturbed: boolean };
}

const ec2 = new EC2Client({});

/** What the relocation does next. @throws VolumeUnusable */
export const handler = middy(async (input: LookInput): Promise<Plan> => {
  const state = await withImpairment(ec2, await observe(ec2, input.database));
  const { planned } = input;
  const result = plan(
    state,
    {
      execution: input.execution,
      attempt: input.attempt,
      stopTried: input.stopTried,
      ...(input.source && { sourceId: input.source }),
      ...(input.noticedAt && { noticedAt: Date.parse(input.noticedAt) }),
      ...(planned && {
        planned: {
          wayBackTried: planned.wayBackTried,
          disturbed: planned.disturbed,
          ...(planned.wayBackId && { wayBackId: planned.wayBackId }),
        },
      }),
    },
    Date.now(),
  );
  logger.info('plan', { execution: input.execution, ...result });
  if (result.next === 'refuse') throw new VolumeUnusable(result.reason);
  return result;
}).use(injectLambdaContext(logger));
