import { types } from 'node:util';
import type { Timer } from '../clock.ts';
import type { Cloud, Shape } from '../kernel.ts';
import type { Random } from '../random.ts';
import type { Credentials, Endpoint, WireRequest, WireResponse } from '../wire/endpoint.ts';
import type { FunctionConfiguration } from './properties.ts';
import { evaluate, type Sandbox } from './sandbox.ts';

/** What a function answers to one invocation. `payload` is JSON text. */
export type Outcome =
  | { readonly ok: true; readonly payload: string }
  | { readonly ok: false; readonly errorType: string; readonly errorMessage: string; readonly trace?: string[] };

interface Invocation {
  readonly id: string;
  finish(outcome: Outcome): void;
  /** The model itself has failed: whoever waits for the outcome gets this instead. */
  abandon(error: Error): void;
}

/**
 * One execution environment of a function: evaluated at its cold start, then serving one invocation at a time. Between
 * invocations it is frozen: timers and answers that come then wait for the next one. Once destroyed, nothing that the
 * function's code still does has any effect.
 */
export class ExecutionEnvironment {
  readonly #cloud: Cloud;
  readonly #endpoint: Endpoint;
  readonly #configuration: FunctionConfiguration;
  readonly #random: Random;
  readonly #credentials: Credentials;
  readonly #logStream: string;
  #sandbox: Sandbox | undefined;
  #invocation: Invocation | undefined;
  #destroyed = false;
  #initialising = false;
  /** What has to happen when the environment runs again. */
  #backlog: (() => void)[] = [];

  constructor(cloud: Cloud, endpoint: Endpoint, configuration: FunctionConfiguration, random: Random) {
    this.#cloud = cloud;
    this.#endpoint = endpoint;
    this.#configuration = configuration;
    this.#random = random;
    this.#logStream = `${new Date(cloud.clock.now()).toISOString().slice(0, 10).replaceAll('-', '/')}/[$LATEST]${random.hex(32)}`;
    this.#credentials = endpoint.issueCredentials(() => {
      const caller = { roleArn: configuration.role, session: configuration.name };
      const id = this.#invocation?.id;
      return id === undefined ? caller : { ...caller, invocation: { id, kill: () => this.#die('signal: killed') } };
    });
  }

  get destroyed(): boolean {
    return this.#destroyed;
  }

  get busy(): boolean {
    return this.#invocation !== undefined;
  }

  /**
   * Runs the handler once, after a cold start where it is the first time.
   * @param payload JSON text
   * @throws NotModelled, or another error of the model itself
   */
  invoke(requestId: string, payload: string): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#invocation = undefined;
      };
      this.#invocation = {
        id: requestId,
        finish: (outcome) => {
          settle();
          resolve(outcome);
        },
        abandon: (error) => {
          settle();
          reject(error);
        },
      };
      this.#run(this.#invocation, payload).catch((error) => this.#abandon(error));
    });
  }

  /** Ends the environment; an invocation that it serves fails as one whose process was killed. */
  destroy(): void {
    if (!this.#destroyed) this.#die('signal: killed');
  }

  async #run(invocation: Invocation, payload: string): Promise<void> {
    if (!this.#sandbox) {
      await this.#cloud.clock.sleep(this.#cloud.latency('lambda.coldStart', this.#configuration.name));
      if (this.#destroyed || !this.#initialise()) return;
    }
    const handler = this.#sandbox?.exports[this.#configuration.handler];
    if (typeof handler !== 'function') {
      const name = this.#configuration.environment['_HANDLER'];
      return this.#crash('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
    }
    if (handler.length >= 3) {
      return this.#crash(
        'Runtime.CallbackHandlerDeprecated',
        'AWS Lambda has removed support for callback-based function handlers starting with Node.js 24.',
      );
    }
    const deadline = this.#cloud.clock.now() + this.#configuration.timeoutSeconds * 1000;
    const timeout = this.#cloud.clock.after(this.#configuration.timeoutSeconds * 1000, () => this.#timeOut(invocation));
    for (const callback of this.#backlog.splice(0)) this.#guard(callback);
    await this.#handle(invocation, handler, payload, deadline, timeout);
  }

  async #handle(invocation: Invocation, handler: Shape, payload: string, deadline: number, timeout: Timer) {
    const finish = (outcome: Outcome) => {
      timeout.cancel();
      if (this.#invocation === invocation) invocation.finish(outcome);
    };
    try {
      const result = await handler(JSON.parse(payload), this.#context(invocation.id, deadline));
      finish({ ok: true, payload: JSON.stringify(result) ?? 'null' });
    } catch (error) {
      finish(describe(error));
    }
  }

  /** Evaluates the bundle; false when that failed, which the invocation has been told then. */
  #initialise(): boolean {
    const { file, architecture, environment, name } = this.#configuration;
    this.#initialising = true;
    try {
      this.#sandbox = evaluate(file, {
        clock: this.#cloud.clock,
        random: this.#random,
        architecture,
        environment: {
          ...environment,
          AWS_ACCESS_KEY_ID: this.#credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: this.#credentials.secretAccessKey,
          AWS_SESSION_TOKEN: this.#credentials.sessionToken,
          AWS_LAMBDA_LOG_STREAM_NAME: this.#logStream,
          _X_AMZN_TRACE_ID: `Root=1-${this.#random.hex(8)}-${this.#random.hex(24)};Parent=${this.#random.hex(16)};Sampled=0`,
        },
        gate: (callback) => this.#whenRunning(callback),
        transport: (request, answered) => this.#send(request, answered),
        log: (line) => {
          if (!this.#destroyed) this.#cloud.record('log', name, { line, requestId: this.#invocation?.id });
        },
        exit: (code) => this.#die(`exit status ${code}`),
        fail: (error) => this.#abandon(error),
      });
    } catch (error) {
      const { errorType, errorMessage } = describe(error);
      this.#crash(errorType, errorMessage);
    }
    this.#initialising = false;
    return !this.#destroyed;
  }

  #whenRunning(callback: () => void): void {
    if (this.#destroyed) return;
    if (this.#invocation || this.#initialising) this.#guard(callback);
    else this.#backlog.push(callback);
  }

  // An exception that nothing catches ends a Node.js process.
  #guard(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      const { errorType, errorMessage } = describe(error);
      this.#crash(errorType, errorMessage);
    }
  }

  #send(request: WireRequest, answered: (response: WireResponse) => void): void {
    if (this.#destroyed) return;
    this.#endpoint.handle(request).then(
      (response) => this.#whenRunning(() => answered(response)),
      (error) => this.#abandon(error),
    );
  }

  #timeOut(invocation: Invocation): void {
    if (this.#invocation !== invocation) return;
    const seconds = this.#configuration.timeoutSeconds.toFixed(2);
    this.#crash('Sandbox.Timedout', `RequestId: ${invocation.id} Error: Task timed out after ${seconds} seconds`);
  }

  #die(how: string): void {
    const id = this.#invocation?.id;
    this.#crash('Runtime.ExitError', `RequestId: ${id} Error: Runtime exited with error: ${how}`);
  }

  #crash(errorType: string, errorMessage: string): void {
    this.#end();
    this.#invocation?.finish({ ok: false, errorType, errorMessage });
  }

  #abandon(error: Error): void {
    this.#end();
    this.#cloud.fail(error);
    this.#invocation?.abandon(error);
  }

  #end(): void {
    this.#destroyed = true;
    this.#backlog = [];
    this.#sandbox?.timers.clearAll();
    this.#endpoint.revoke(this.#credentials.accessKeyId);
  }

  /** @see docs.aws.amazon.com/lambda/latest/dg/nodejs-context.html */
  #context(requestId: string, deadline: number): Shape {
    const { name, arn, memoryMiB, logGroup } = this.#configuration;
    return {
      awsRequestId: requestId,
      callbackWaitsForEmptyEventLoop: true,
      functionName: name,
      functionVersion: '$LATEST',
      getRemainingTimeInMillis: () => Math.max(0, deadline - this.#cloud.clock.now()),
      invokedFunctionArn: arn,
      logGroupName: logGroup,
      logStreamName: this.#logStream,
      memoryLimitInMB: String(memoryMiB),
    };
  }
}

/** An error as Lambda's Node.js runtime reports it. */
function describe(error: unknown): Extract<Outcome, { ok: false }> {
  if (types.isNativeError(error)) {
    return {
      ok: false,
      errorType: error.name,
      errorMessage: error.message,
      trace: (error.stack ?? '').split('\n'),
    };
  }
  return { ok: false, errorType: typeof error, errorMessage: String(error), trace: [] };
}
