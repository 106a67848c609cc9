import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import {
  DescribeExecutionCommand,
  SFNClient,
  StartExecutionCommand,
  StartSyncExecutionCommand,
} from '@aws-sdk/client-sfn';
import middy from '@middy/core';
import { MalformedInput } from '../core/errors.ts';
import { relocationName } from '../core/names.ts';
import { requireVariable } from '../shared/environment.ts';
import { logger } from '../shared/logger.ts';
import { decodeEnvelope } from './event.ts';
import { decodeInterruptionWarning, INTERRUPTION_WARNING } from './interruption-warning.ts';
import type { Notice } from './notice.ts';
import { decodeRebalanceRecommendation, REBALANCE_RECOMMENDATION } from './rebalance-recommendation.ts';
import { decodeStateChange, STATE_CHANGE } from './state-change.ts';

/** What workflows/note-notice.ts answers. */
interface Noted {
  /** The database whose host the instance is; null when it is none of Keeper's, or nothing follows from its end. */
  readonly database: string | null;
  /** Whether the instance has the data volume, as far as one can see. */
  readonly holdsVolume: boolean;
}

const NOTE_NOTICE_ARN = requireVariable('NOTE_NOTICE_ARN');
const RELOCATE_ARN = requireVariable('RELOCATE_ARN');

const sfn = new SFNClient({});

/**
 * AWS announces that it takes a Spot host, or a host ends: starts its relocation. The execution's name is derived from the
 * host, so all that is heard of one host is one relocation.
 *
 * Without the EC2 client, which alone would double the bundle: the instance's tags are read by an Express workflow.
 *
 * @throws MalformedInput for what is not one of the three events
 */
export const handler = middy(async (event: unknown) => {
  const notice = decode(event);
  const { database, holdsVolume } = await note(notice);
  if (database === null) {
    logger.info('nothing to do for this instance', { instance: notice.instanceId, notice: notice.kind });
    return;
  }
  const name = relocationName(database, notice.instanceId);
  const outcome = await startRelocation(
    name,
    {
      database,
      source: notice.instanceId,
      reason: notice.kind,
      ...(notice.noticedAt && { noticedAt: notice.noticedAt }),
    },
    holdsVolume,
  );
  logger.info(outcome, { execution: name, notice: notice.kind });
}).use(injectLambdaContext(logger));

function decode(event: unknown): Notice {
  const envelope = decodeEnvelope(event);
  switch (envelope['detail-type']) {
    case INTERRUPTION_WARNING:
      return decodeInterruptionWarning(envelope);
    case REBALANCE_RECOMMENDATION:
      return decodeRebalanceRecommendation(envelope);
    case STATE_CHANGE:
      return decodeStateChange(envelope);
    default:
      throw new MalformedInput(`${envelope['detail-type']} is no news of a host: correct the EventBridge rule`);
  }
}

async function note(notice: Notice): Promise<Noted> {
  const { status, output, error, cause } = await sfn.send(
    new StartSyncExecutionCommand({ stateMachineArn: NOTE_NOTICE_ARN, input: JSON.stringify(notice) }),
  );
  if (status !== 'SUCCEEDED' || !output)
    throw new Error(`the tags of ${notice.instanceId} cannot be read: ${error}: ${cause}`);
  return JSON.parse(output);
}

async function startRelocation(name: string, input: object, holdsVolume: boolean): Promise<string> {
  try {
    await sfn.send(new StartExecutionCommand({ stateMachineArn: RELOCATE_ARN, name, input: JSON.stringify(input) }));
    return 'relocation started';
  } catch (error) {
    if (!(error instanceof Error && error.name === 'ExecutionAlreadyExists')) throw error;
  }
  // The same host, announced before. An execution that has ended without moving the database must not keep it there; and
  // the database may have come back to it since.
  const executionArn = `${RELOCATE_ARN.replace(':stateMachine:', ':execution:')}:${name}`;
  const { status } = await sfn.send(new DescribeExecutionCommand({ executionArn }));
  if (status === 'RUNNING' || (status === 'SUCCEEDED' && !holdsVolume)) return `relocation known: ${status}`;
  return startRelocation(`${name}-again`, input, holdsVolume);
}
