import {
  AwsError,
  type Caller,
  type Cloud,
  NotModelled,
  type Operation,
  onlyKnown,
  type Service,
  type Shape,
} from './kernel.ts';
import {
  DEFAULT_EVENT_INVOKE_CONFIG,
  type EventInvokeConfig,
  processEvent,
  readEventInvokeConfig,
} from './lambda/async-invocation.ts';
import { ExecutionEnvironment, type Outcome } from './lambda/environment.ts';
import { type FunctionConfiguration, readFunction } from './lambda/properties.ts';
import type { Random } from './random.ts';
import type { ResourceHandler, ResourceHandlers } from './resource.ts';
import type { Endpoint } from './wire/endpoint.ts';

export interface LambdaOptions {
  /** Where the functions' own requests go. */
  readonly endpoint: Endpoint;
  /** @see Iam.assume */
  assume(roleArn: string, servicePrincipal: string, context: Readonly<Record<string, string>>): Promise<void>;
}

/** The result of {@link invokeFunction}: what the function returned, or why it did not. */
export type InvokeResult =
  | { readonly ok: true; readonly payload: unknown }
  | { readonly ok: false; readonly errorType: string; readonly errorMessage: string };

/**
 * Invokes a function and waits for its result, the way every caller does: counted, authorized, delayed.
 * @param functionName name or ARN
 * @throws AwsError when the invocation itself is refused
 */
export async function invokeFunction(
  cloud: Cloud,
  functionName: string,
  payload: unknown,
  caller: Caller,
): Promise<InvokeResult> {
  const input = { FunctionName: functionName, Payload: Buffer.from(JSON.stringify(payload)) };
  const output = await cloud.call({ service: 'lambda', operation: 'Invoke', input, caller });
  const result = JSON.parse(Buffer.from(output.Payload).toString());
  if (output.FunctionError === undefined) return { ok: true, payload: result };
  return { ok: false, errorType: result.errorType, errorMessage: result.errorMessage };
}

/** Which AWS service may invoke a function, and for which of its resources. */
interface Permission {
  readonly id: string;
  readonly principal: string;
  readonly sourceArn: string | undefined;
}

interface DeployedFunction {
  readonly configuration: FunctionConfiguration;
  readonly random: Random;
  environments: ExecutionEnvironment[];
  permissions: Permission[];
  eventInvokeConfig: EventInvokeConfig;
}

/** AWS Lambda: functions run from their built bundles, in execution environments that live and die as Lambda's do. */
export class LambdaService implements Service {
  readonly name = 'lambda';
  readonly operations: Readonly<Record<string, Operation>>;
  /** AWS::Lambda::Function, ::Permission and ::EventInvokeConfig. */
  readonly handlers: ResourceHandlers;
  readonly #cloud: Cloud;
  readonly #options: LambdaOptions;
  readonly #random: Random;
  readonly #functions = new Map<string, DeployedFunction>();

  constructor(cloud: Cloud, options: LambdaOptions) {
    this.#cloud = cloud;
    this.#options = options;
    this.#random = cloud.random.fork('lambda');
    this.operations = {
      Invoke: {
        latency: 'lambda.warmInvoke',
        authorize: (input) => [{ action: 'lambda:InvokeFunction', resource: this.#arn(input.FunctionName) }],
        invoke: (input) => this.#invoke(input),
      },
    };
    this.handlers = {
      'AWS::Lambda::Function': this.#functionHandler(),
      'AWS::Lambda::Permission': this.#permissionHandler(),
      'AWS::Lambda::EventInvokeConfig': this.#eventInvokeConfigHandler(),
    };
    cloud.register(this);
  }

  /**
   * Whether an AWS::Lambda::Permission lets an AWS service invoke a function for one of its resources. The service asks
   * before it calls Invoke in its own name.
   * @param principal e.g. `events.amazonaws.com`
   * @param sourceArn e.g. the rule
   * @throws AwsError ResourceNotFoundException
   */
  mayInvoke(functionName: string, principal: string, sourceArn: string): boolean {
    return this.#find(functionName).permissions.some(
      (permission) =>
        permission.principal === principal &&
        (permission.sourceArn === undefined || matchesArn(permission.sourceArn, sourceArn)),
    );
  }

  async #invoke(input: Shape): Promise<Shape> {
    onlyKnown('lambda:Invoke', input, ['FunctionName', 'InvocationType', 'Payload', 'LogType', 'Qualifier']);
    const {
      LogType: logType = 'None',
      Qualifier: qualifier = '$LATEST',
      InvocationType: type = 'RequestResponse',
    } = input;
    if (logType !== 'None') throw new NotModelled(`lambda:Invoke with LogType ${logType}`);
    if (qualifier !== '$LATEST') throw new NotModelled(`lambda:Invoke with Qualifier ${qualifier}`);
    const target = this.#find(input.FunctionName);
    const payload = readPayload(input.Payload);
    const requestId = this.#random.uuid();
    if (type === 'Event') {
      this.#accept(target, requestId, payload);
      return { StatusCode: 202, Payload: new Uint8Array() };
    }
    if (type !== 'RequestResponse') throw new NotModelled(`lambda:Invoke with InvocationType ${type}`);
    const outcome = await this.#run(target, requestId, payload);
    const answer = { StatusCode: 200, ExecutedVersion: '$LATEST' };
    if (outcome.ok) return { ...answer, Payload: Buffer.from(outcome.payload) };
    const { errorType, errorMessage, trace } = outcome;
    const error = JSON.stringify({ errorType, errorMessage, trace });
    return { ...answer, FunctionError: 'Unhandled', Payload: Buffer.from(error) };
  }

  /** Queues an event: the caller does not wait for what becomes of it. */
  #accept(target: DeployedFunction, requestId: string, payload: string): void {
    const { configuration, eventInvokeConfig } = target;
    const attempt = async () => {
      await this.#cloud.clock.sleep(this.#cloud.latency('lambda.warmInvoke', configuration.name));
      return this.#run(target, requestId, payload);
    };
    processEvent(this.#cloud, configuration, eventInvokeConfig, requestId, payload, attempt).catch((error) =>
      this.#cloud.fail(error),
    );
  }

  /** One invocation, in an idle environment or in a new one. */
  async #run(target: DeployedFunction, requestId: string, payload: string): Promise<Outcome> {
    const { configuration } = target;
    target.environments = target.environments.filter(({ destroyed }) => !destroyed);
    let environment = target.environments.find(({ busy }) => !busy);
    const coldStart = environment === undefined;
    if (!environment) {
      environment = new ExecutionEnvironment(
        this.#cloud,
        this.#options.endpoint,
        configuration,
        target.random.fork(`environment ${requestId}`),
      );
      target.environments.push(environment);
    }
    const startedAt = this.#cloud.clock.now();
    this.#cloud.record('lambda', configuration.name, { event: 'started', requestId, coldStart });
    const outcome = await environment.invoke(requestId, payload);
    this.#cloud.record('lambda', configuration.name, {
      event: outcome.ok ? 'succeeded' : 'failed',
      requestId,
      durationMs: this.#cloud.clock.now() - startedAt,
      ...(outcome.ok ? {} : { errorType: outcome.errorType, errorMessage: outcome.errorMessage }),
    });
    return outcome;
  }

  #find(functionName: string): DeployedFunction {
    const target = this.#functions.get(baseName(functionName));
    if (!target) {
      throw new AwsError('ResourceNotFoundException', `Function not found: ${this.#arn(functionName)}`, 404);
    }
    return target;
  }

  #arn(functionName: string): string {
    return this.#cloud.arn('lambda', `function:${baseName(functionName)}`);
  }

  #functionHandler(): ResourceHandler {
    return {
      create: async (logicalId, properties, stack) => {
        const configuration = readFunction(this.#cloud, logicalId, properties, stack);
        const { name, arn, role } = configuration;
        await this.#options.assume(role, 'lambda.amazonaws.com', { 'aws:SourceArn': arn });
        if (this.#functions.has(name)) {
          throw new AwsError('ResourceConflictException', `Function already exist: ${name}`, 409);
        }
        this.#functions.set(name, {
          configuration,
          random: this.#random.fork(name),
          environments: [],
          permissions: [],
          eventInvokeConfig: DEFAULT_EVENT_INVOKE_CONFIG,
        });
        return { ref: name, attributes: { Arn: arn } };
      },
      delete: ({ ref }) => {
        for (const environment of this.#find(ref).environments) environment.destroy();
        this.#functions.delete(ref);
      },
    };
  }

  #permissionHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        onlyKnown('AWS::Lambda::Permission', properties, ['Action', 'FunctionName', 'Principal', 'SourceArn']);
        const { Action: action, FunctionName: functionName, Principal: principal, SourceArn: sourceArn } = properties;
        if (action !== 'lambda:InvokeFunction') throw new NotModelled(`a Lambda permission for ${action}`);
        if (!/^[\w.-]+\.amazonaws\.com$/.test(principal)) throw new NotModelled(`a Lambda permission for ${principal}`);
        const id = stack.physicalName(logicalId);
        this.#find(functionName).permissions.push({ id, principal, sourceArn });
        return { ref: id, attributes: { Id: id } };
      },
      delete: ({ ref }) => {
        for (const target of this.#functions.values()) {
          target.permissions = target.permissions.filter(({ id }) => id !== ref);
        }
      },
    };
  }

  #eventInvokeConfigHandler(): ResourceHandler {
    return {
      create: (_logicalId, properties) => {
        const target = this.#find(properties.FunctionName);
        target.eventInvokeConfig = readEventInvokeConfig(properties);
        return { ref: target.configuration.name, attributes: {} };
      },
      delete: ({ ref }) => {
        const target = this.#functions.get(ref);
        if (target) target.eventInvokeConfig = DEFAULT_EVENT_INVOKE_CONFIG;
      },
    };
  }
}

/** The name in a name, a partial ARN or an ARN, with or without `:$LATEST`. */
function baseName(functionName: string): string {
  const name = /^(?:(?:arn:aws:lambda:[^:]+:)?\d{12}:function:)?([\w-]+)(?::\$LATEST)?$/.exec(functionName)?.[1];
  if (name === undefined) throw new NotModelled(`the Lambda function name ${functionName}`);
  return name;
}

/** ARN patterns of conditions: `*` and `?` within the parts of the ARN. */
function matchesArn(pattern: string, arn: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`).test(arn);
}

function readPayload(payload: Uint8Array | undefined): string {
  const text = payload && payload.byteLength > 0 ? Buffer.from(payload).toString() : '{}';
  try {
    JSON.parse(text);
  } catch (error) {
    throw new AwsError('InvalidRequestContentException', `Could not parse request body into json: ${error}`, 400);
  }
  return text;
}
