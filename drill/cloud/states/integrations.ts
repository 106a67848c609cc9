import * as lambda from '@aws-sdk/client-lambda';
import * as sfn from '@aws-sdk/client-sfn';
import * as sns from '@aws-sdk/client-sns';
import * as ssm from '@aws-sdk/client-ssm';
import { AwsError, type Caller, type Cloud, NotModelled, onlyKnown, type ServiceName, type Shape } from '../kernel.ts';
import { StateFailure } from './failures.ts';

/** One way in which a Task calls an AWS service: what its `Resource` ARN says. */
export interface Integration {
  readonly service: ServiceName;
  /** as the API names it, e.g. `AttachVolume` */
  readonly operation: string;
  readonly waitForTaskToken: boolean;
  /** `resourceType` and `resource` of the history's events, e.g. `aws-sdk:ec2` and `attachVolume` */
  readonly resourceType: string;
  readonly resource: string;
  readonly kind: 'lambda' | 'startExecution' | 'publish' | 'sdk';
}

interface SdkService {
  readonly service: ServiceName;
  /** Exception prefix. @see step-functions/latest/dg/supported-services-awssdk.html */
  readonly prefix: string;
  /** Whether AWS's model of the service has an exception of this name; others arrive as the service's own. */
  models(code: string): boolean;
  /** The API's members begin with a small letter; Step Functions writes them with a capital one. */
  readonly camelCase?: true;
  /** The API's member of bytes. */
  readonly blob?: string;
}

/** Whether the model from which AWS made this client has an exception of a name. */
function exceptionsOf(client: Readonly<Record<string, unknown>>): (code: string) => boolean {
  return (code) => {
    const member = client[code];
    return typeof member === 'function' && member.prototype instanceof Error;
  };
}

const SDK_SERVICES: Readonly<Record<string, SdkService>> = {
  // EC2's model has no exceptions at all, so that every error arrives as `Ec2.Ec2Exception`.
  ec2: { service: 'ec2', prefix: 'Ec2', models: () => false },
  ssm: { service: 'ssm', prefix: 'Ssm', models: exceptionsOf(ssm) },
  sns: { service: 'sns', prefix: 'Sns', models: exceptionsOf(sns) },
  sfn: { service: 'states', prefix: 'Sfn', models: exceptionsOf(sfn), camelCase: true },
  s3: { service: 's3', prefix: 'S3', models: (code) => S3_EXCEPTIONS.includes(code), blob: 'Body' },
  cloudwatch: { service: 'cloudwatch', prefix: 'CloudWatch', models: (code) => CLOUDWATCH_EXCEPTIONS.includes(code) },
};

/** @see AmazonCloudWatch/latest/APIReference/API_PutMetricData.html, "Errors" */
const CLOUDWATCH_EXCEPTIONS = [
  'InternalServiceFault',
  'InvalidParameterCombination',
  'InvalidParameterValue',
  'MissingParameter',
];

/** @see docs.aws.amazon.com/sdk-for-kotlin/api/latest/s3/aws.sdk.kotlin.services.s3.model/-s3-exception, "Inheritors" */
const S3_EXCEPTIONS = [
  'BucketAlreadyExists',
  'BucketAlreadyOwnedByYou',
  'EncryptionTypeMismatch',
  'IdempotencyParameterMismatch',
  'InvalidObjectState',
  'InvalidRequest',
  'InvalidWriteOffset',
  'NoSuchBucket',
  'NoSuchKey',
  'NoSuchUpload',
  'ObjectAlreadyInActiveTierError',
  'ObjectNotInActiveTierError',
  'TooManyParts',
];

interface Optimized {
  readonly service: ServiceName;
  readonly operation: string;
  readonly kind: Integration['kind'];
  readonly known: readonly string[];
  readonly required: readonly string[];
}

const OPTIMIZED: Readonly<Record<string, Optimized>> = {
  'lambda:invoke': {
    service: 'lambda',
    operation: 'Invoke',
    kind: 'lambda',
    known: ['FunctionName', 'Payload', 'InvocationType', 'Qualifier'],
    required: ['FunctionName'],
  },
  'states:startExecution': {
    service: 'states',
    operation: 'StartExecution',
    kind: 'startExecution',
    known: ['StateMachineArn', 'Input', 'Name'],
    required: ['StateMachineArn'],
  },
  'sns:publish': {
    service: 'sns',
    operation: 'Publish',
    kind: 'publish',
    known: ['TopicArn', 'Message', 'Subject', 'MessageAttributes'],
    required: ['TopicArn', 'Message'],
  },
};

/**
 * Reads the `Resource` of a Task.
 * @throws NotModelled for every integration that the local cloud cannot carry out
 */
export function parseResource(arn: unknown, path: string): Integration {
  const match = /^arn:aws:states:::(aws-sdk:)?([a-z0-9]+):([a-zA-Z]+)(\.waitForTaskToken)?$/.exec(String(arn));
  const [, sdk, service = '', action = '', callback] = match ?? [];
  const resource = `${action}${callback ?? ''}`;
  const waitForTaskToken = callback !== undefined;
  const optimized = sdk === undefined ? OPTIMIZED[`${service}:${action}`] : undefined;
  if (optimized) {
    const { kind, operation } = optimized;
    return { service: optimized.service, operation, kind, waitForTaskToken, resourceType: service, resource };
  }
  const target = sdk === undefined ? undefined : SDK_SERVICES[service];
  if (!target) throw new NotModelled(`${path}: the local cloud does not model the integration ${arn}`);
  const operation = action.charAt(0).toUpperCase() + action.slice(1);
  const resourceType = `aws-sdk:${service}`;
  return { service: target.service, operation, kind: 'sdk', waitForTaskToken, resourceType, resource };
}

/**
 * Checks the names of a Task's arguments, of optimized integrations; those of the others are checked by the operation.
 * @throws NotModelled for an argument that the local cloud does not pass on
 */
export function checkArguments(integration: Integration, input: Shape, path: string): void {
  const optimized = integration.kind === 'sdk' ? undefined : optimizedOf(integration);
  if (optimized) onlyKnown(path, input, optimized.known);
}

function optimizedOf(integration: Integration): Optimized | undefined {
  return Object.values(OPTIMIZED).find(({ kind }) => kind === integration.kind);
}

/** An instant as Step Functions writes it: ISO 8601, without a fraction of zero. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}

/**
 * Carries out the call of a Task, as the machine's role.
 * @param requestId what AWS would name this request
 * @returns the task's result, as JSON
 * @throws StateFailure named as Step Functions names it
 */
export async function callIntegration(
  cloud: Cloud,
  integration: Integration,
  input: Shape,
  caller: Caller,
  requestId: string,
): Promise<unknown> {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new StateFailure('States.Runtime', `The Arguments of ${integration.resource} must be an object`);
  }
  checkArguments(integration, input, integration.resource);
  const missing = optimizedOf(integration)?.required.find((name) => input[name] === undefined);
  if (missing !== undefined) throw new StateFailure('States.Runtime', `The field '${missing}' is required`);
  const { service, operation } = integration;
  let output: Shape;
  try {
    output = await cloud.call({ service, operation, input: request(integration, input), caller });
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    throw failure(integration, error, requestId);
  }
  if (integration.kind === 'sdk') return json(output, capitalises(integration));
  const metadata = {
    SdkHttpMetadata: { HttpHeaders: { 'x-amzn-RequestId': requestId }, HttpStatusCode: 200 },
    SdkResponseMetadata: { RequestId: requestId },
  };
  if (integration.kind === 'lambda') return { ...lambdaResult(output), ...metadata };
  return { ...(json(output, integration.kind === 'startExecution') as object), ...metadata };
}

function capitalises(integration: Integration): boolean {
  return integration.service === 'states';
}

function request(integration: Integration, input: Shape): Shape {
  switch (integration.kind) {
    case 'lambda':
      return {
        ...input,
        InvocationType: input.InvocationType ?? 'RequestResponse',
        Payload: new TextEncoder().encode(JSON.stringify(input.Payload ?? {})),
      };
    case 'startExecution':
      return uncapitalised({ ...input, Input: text(input.Input ?? {}) });
    case 'publish':
      return { ...input, Message: text(input.Message) };
    case 'sdk':
      return capitalises(integration) ? uncapitalised(input) : withBlob(integration, input);
  }
}

/**
 * Bytes are written as the JSON text of whatever the argument is: also a string, which gets its quotation marks.
 * Recorded against AWS: github.com/localstack/localstack/pull/12035
 */
function withBlob(integration: Integration, input: Shape): Shape {
  const { blob } = sdkServiceOf(integration);
  if (blob === undefined || input[blob] === undefined) return input;
  return { ...input, [blob]: new TextEncoder().encode(JSON.stringify(input[blob])) };
}

function sdkServiceOf({ resourceType }: Integration): SdkService {
  return SDK_SERVICES[resourceType.slice('aws-sdk:'.length)] as SdkService;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function uncapitalised(input: Shape): Shape {
  return Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key.charAt(0).toLowerCase() + key.slice(1), value]),
  );
}

/** The JSON that Step Functions makes of an SDK's answer. */
function json(value: Shape, capitalise: boolean): unknown {
  if (value instanceof Date) return timestamp(value.getTime());
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (Array.isArray(value)) return value.map((item) => json(item, capitalise));
  if (typeof value !== 'object' || value === null) return value ?? null;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, member]) => member !== undefined && key !== '$metadata')
      .map(([key, member]) => [
        capitalise ? key.charAt(0).toUpperCase() + key.slice(1) : key,
        json(member, capitalise),
      ]),
  );
}

/** @throws StateFailure the function's own error, under its `errorType` */
function lambdaResult(output: Shape): object {
  const body = output.Payload === undefined ? '' : new TextDecoder().decode(output.Payload);
  if (output.FunctionError !== undefined) {
    const { errorType } = JSON.parse(body || '{}');
    throw new StateFailure(errorType ?? 'Lambda.Unknown', body);
  }
  return {
    ...(output.ExecutedVersion === undefined ? {} : { ExecutedVersion: output.ExecutedVersion }),
    Payload: body === '' ? {} : JSON.parse(body),
    StatusCode: output.StatusCode,
  };
}

/**
 * The optimized integrations speak through AWS's SDK for Java 1 (`Lambda.AWSLambdaException`, the code in the cause),
 * the others through version 2 (`Ec2.Ec2Exception`, no code in the cause). Seen in recorded executions.
 */
function failure(integration: Integration, error: AwsError, requestId: string): StateFailure {
  if (integration.kind === 'sdk') {
    const target = sdkServiceOf(integration);
    const name = target.models(error.code) ? exceptionName(error.code) : `${target.prefix}Exception`;
    return new StateFailure(
      `${target.prefix}.${name}`,
      `${error.message} (Service: ${target.prefix}, Status Code: ${error.status}, Request ID: ${requestId})`,
    );
  }
  const { prefix, service, own, models } = LEGACY[integration.kind];
  const name = models(error.code) ? exceptionName(error.code) : own;
  return new StateFailure(
    `${prefix}.${name}`,
    `${error.message} (Service: ${service}; Status Code: ${error.status}; Error Code: ${error.code}; Request ID: ${requestId}; Proxy: null)`,
  );
}

const LEGACY = {
  lambda: {
    prefix: 'Lambda',
    service: 'AWSLambda',
    own: 'AWSLambdaException',
    models: exceptionsOf(lambda),
  },
  startExecution: {
    prefix: 'StepFunctions',
    service: 'AWSStepFunctions',
    own: 'AWSStepFunctionsException',
    models: exceptionsOf(sfn),
  },
  publish: {
    prefix: 'SNS',
    service: 'AmazonSNS',
    own: 'AmazonSNSException',
    models: exceptionsOf(sns),
  },
};

/** The class name that AWS's SDK for Java gives to an exception of the model. */
function exceptionName(code: string): string {
  if (code.endsWith('Exception')) return code;
  return `${code.endsWith('Fault') ? code.slice(0, -'Fault'.length) : code}Exception`;
}
