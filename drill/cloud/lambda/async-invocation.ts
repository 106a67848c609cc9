import { AwsError, type Caller, type Cloud, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import type { Outcome } from './environment.ts';
import type { FunctionConfiguration } from './properties.ts';

/** How a function treats events. @see docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html */
export interface EventInvokeConfig {
  readonly maximumRetryAttempts: number;
  readonly maximumEventAgeSeconds: number;
  /** ARN of the queue or topic that is told of events that could not be processed. */
  readonly onFailure: string | undefined;
}

export const DEFAULT_EVENT_INVOKE_CONFIG: EventInvokeConfig = {
  maximumRetryAttempts: 2,
  maximumEventAgeSeconds: 6 * 3600,
  onFailure: undefined,
};

/** "one minute between the first two attempts, and two minutes between the second and third" (same page). */
const RETRY_DELAYS_MS = [60_000, 120_000];

/** Reads the properties of an AWS::Lambda::EventInvokeConfig. */
export function readEventInvokeConfig(properties: Shape): EventInvokeConfig {
  onlyKnown('AWS::Lambda::EventInvokeConfig', properties, [
    'FunctionName',
    'Qualifier',
    'MaximumRetryAttempts',
    'MaximumEventAgeInSeconds',
    'DestinationConfig',
  ]);
  if (properties.Qualifier !== '$LATEST') throw new NotModelled(`the Lambda qualifier ${properties.Qualifier}`);
  onlyKnown('AWS::Lambda::EventInvokeConfig DestinationConfig', properties.DestinationConfig, ['OnFailure']);
  const defaults = DEFAULT_EVENT_INVOKE_CONFIG;
  return {
    maximumRetryAttempts: Number(properties.MaximumRetryAttempts ?? defaults.maximumRetryAttempts),
    maximumEventAgeSeconds: Number(properties.MaximumEventAgeInSeconds ?? defaults.maximumEventAgeSeconds),
    onFailure: properties.DestinationConfig?.OnFailure?.Destination,
  };
}

/**
 * Processes one event: at least one attempt, retries, and what could not be processed goes to the dead letter target
 * and to the failure destination.
 */
export async function processEvent(
  cloud: Cloud,
  target: FunctionConfiguration,
  config: EventInvokeConfig,
  requestId: string,
  payload: string,
  attempt: () => Promise<Outcome>,
): Promise<void> {
  const acceptedAt = cloud.clock.now();
  for (let count = 1; ; count++) {
    const outcome = await attempt();
    if (outcome.ok) return;
    const delay = RETRY_DELAYS_MS[count - 1];
    const isExhausted = delay === undefined || count > config.maximumRetryAttempts;
    const ageMs = cloud.clock.now() + (delay ?? 0) - acceptedAt;
    const isTooOld = ageMs > config.maximumEventAgeSeconds * 1000;
    if (!isExhausted && !isTooOld) {
      await cloud.clock.sleep(delay);
      continue;
    }
    const condition = isExhausted ? 'RetriesExhausted' : 'EventAgeExceeded';
    cloud.record('lambda', target.name, { event: 'dropped', requestId, condition, attempts: count });
    if (target.deadLetterTarget) {
      await deliver(cloud, target, target.deadLetterTarget, payload, deadLetterAttributes(requestId, outcome));
    }
    if (config.onFailure) {
      const record = failureRecord(cloud, target, requestId, payload, outcome, condition, count);
      await deliver(cloud, target, config.onFailure, JSON.stringify(record), undefined);
    }
    return;
  }
}

type Failure = Extract<Outcome, { ok: false }>;

/** @see docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html */
function deadLetterAttributes(requestId: string, { errorMessage }: Failure): Shape {
  return {
    RequestID: { DataType: 'String', StringValue: requestId },
    ErrorCode: { DataType: 'Number', StringValue: '200' },
    ErrorMessage: { DataType: 'String', StringValue: errorMessage.slice(0, 1024) },
  };
}

/** @see the same page: the invocation record of a destination */
function failureRecord(
  cloud: Cloud,
  target: FunctionConfiguration,
  requestId: string,
  payload: string,
  { errorType, errorMessage, trace }: Failure,
  condition: string,
  approximateInvokeCount: number,
): Shape {
  return {
    version: '1.0',
    timestamp: new Date(cloud.clock.now()).toISOString(),
    requestContext: { requestId, functionArn: `${target.arn}:$LATEST`, condition, approximateInvokeCount },
    requestPayload: JSON.parse(payload),
    responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' },
    responsePayload: { errorType, errorMessage, trace },
  };
}

/** Sends with the function's role. AWS drops what it may not deliver: that is recorded, and no more. */
async function deliver(cloud: Cloud, target: FunctionConfiguration, arn: string, message: string, attributes: Shape) {
  const caller: Caller = { roleArn: target.role, session: target.name };
  const [, , service, region, account, name] = arn.split(':');
  const messageAttributes = attributes && { MessageAttributes: attributes };
  try {
    if (service === 'sqs') {
      const QueueUrl = `https://sqs.${region}.amazonaws.com/${account}/${name}`;
      const input = { QueueUrl, MessageBody: message, ...messageAttributes };
      await cloud.call({ service, operation: 'SendMessage', input, caller });
    } else if (service === 'sns') {
      const input = { TopicArn: arn, Message: message, ...messageAttributes };
      await cloud.call({ service, operation: 'Publish', input, caller });
    } else throw new NotModelled(`${arn} as a destination of a Lambda function`);
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    cloud.record('lambda', target.name, { event: 'delivery-failed', destination: arn, error: error.code });
  }
}
