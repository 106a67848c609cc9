import type { Clock } from './clock.ts';
import { type LatencyName, sampleLatency } from './latencies.ts';
import { Random } from './random.ts';

/** The services of which the local cloud models a part, by their IAM prefix. */
export type ServiceName =
  | 'ec2'
  | 'ssm'
  | 'states'
  | 'lambda'
  | 'events'
  | 'sns'
  | 'sqs'
  | 'sts'
  | 'logs'
  | 'cloudwatch'
  | 'scheduler'
  | 'kms'
  | 's3';

// biome-ignore lint/suspicious/noExplicitAny: inputs and outputs are whatever the SDK's schema of the operation says
export type Shape = any;

/** An answer that AWS gives instead of the result. `code` is the name that SDK v3 puts into `error.name`. */
export class AwsError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, message: string, status = 400) {
    super(message);
    this.name = code;
    this.code = code;
    this.status = status;
  }
}

/** The local cloud was asked for something it does not model. Never swallowed: it ends the drill or the test. */
export class NotModelled extends Error {
  override name = 'NotModelled';
}

/** Who calls: a role session, or an AWS service. `roleArn` is what IAM evaluates. */
export interface Caller {
  /** The role, or the principal of an AWS service that calls in its own name, e.g. `events.amazonaws.com`. */
  readonly roleArn: string;
  /** e.g. the function's name, or the instance id. */
  readonly session: string;
  /** Condition keys that come with the caller, e.g. `aws:SourceArn` when a service calls on behalf of a resource. */
  readonly context?: Readonly<Record<string, string>>;
  /** Set for calls of one Lambda invocation, so that faults can kill it between two calls. */
  readonly invocation?: { readonly id: string; kill(): void };
}

/** One thing IAM has to allow for a request. One request can need several (AttachVolume: instance and volume). */
export interface Authorization {
  /** e.g. `ec2:AttachVolume` */
  readonly action: string;
  /** an ARN, or `*` for actions without resource types */
  readonly resource: string;
  /** condition keys, e.g. `{ 'aws:ResourceTag/keeper:database': 'lighthouse' }` */
  readonly context?: Readonly<Record<string, string | readonly string[]>>;
}

export interface ApiRequest {
  readonly service: ServiceName;
  readonly operation: string;
  readonly input: Shape;
  readonly caller: Caller;
}

/**
 * One API operation. `input` and the result are shaped as the AWS SDK for JavaScript shapes them (member names as in
 * the API, timestamps as Date, blobs as Uint8Array).
 */
export interface Operation {
  /** What IAM must allow. An empty list is only right for operations that need no permission. */
  authorize(input: Shape, caller: Caller): readonly Authorization[];
  /** @throws AwsError as AWS would; NotModelled for members or values that the model does not honour. */
  invoke(input: Shape, caller: Caller): Promise<Shape> | Shape;
  /** Round trip; default `api`. Time inside the operation is the model's own business. */
  readonly latency?: LatencyName;
  /** Token bucket, where one request's differs from another's (filtered and unfiltered Describe) by its input. */
  readonly bucket?: Bucket | ((input: Shape) => Bucket);
}

/** Shared by all operations that name the same bucket. @see facts: EC2 API request throttling */
export interface Bucket {
  readonly name: string;
  readonly capacity: number;
  readonly refillPerSecond: number;
}

export interface Service {
  readonly name: ServiceName;
  readonly operations: Readonly<Record<string, Operation>>;
}

/** An event as EventBridge delivers it. */
export interface AwsEvent {
  version?: string;
  id: string;
  'detail-type': string;
  source: string;
  account: string;
  time: string;
  region: string;
  resources: string[];
  detail: Record<string, unknown>;
}

/** The judge of every request. */
export interface Authorizer {
  /** Returns undefined when allowed, else why not. */
  deny(caller: Caller, authorization: Authorization): string | undefined | Promise<string | undefined>;
}

/** What a fault does to one request. */
export type Fault =
  /** `after`: the request had its effect, and only its answer is this. */
  | { readonly error: AwsError; readonly when?: 'before' | 'after' }
  | { readonly delayMs: number }
  /** The calling Lambda dies: before the request reaches AWS, or after it took effect but before the answer arrives. */
  | { readonly kill: 'before' | 'after' };

export interface Faults {
  /** Asked once for every request, with its number in this run, counted from 0. */
  onCall?(request: ApiRequest, number: number): Fault | undefined;
  /** May stretch or shrink what AWS takes; `subject` is the resource, where there is one. */
  onLatency?(name: LatencyName, sampledMs: number, subject?: string): number;
  /** Decides what happens to an event: nothing, loss, a later delivery, or several. Default: one delivery. */
  onEvent?(event: AwsEvent): { readonly delaysMs: readonly number[] } | undefined;
}

/** Something that happened, for the ledger of steps, the view and the checks. */
export interface Happening {
  readonly at: number;
  /** e.g. `call`, `denied`, `instance-state`, `volume-attachment`, `address`, `state-entered`, `state-exited`, `command`, `lambda` … */
  readonly kind: string;
  /** the resource or execution it is about */
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface CloudOptions {
  readonly clock: Clock;
  readonly seed: number;
  readonly faults?: Faults;
  readonly authorizer?: Authorizer;
  readonly region?: string;
  readonly account?: string;
}

/** What services call a refusal, where it is not `AccessDeniedException`. */
const ACCESS_DENIED: Partial<Record<ServiceName, string>> = { ec2: 'UnauthorizedOperation', s3: 'AccessDenied' };

/** The face of the local cloud that all its services share: identity, time, chance, and the one way a request takes. */
export class Cloud {
  readonly clock: Clock;
  readonly region: string;
  readonly account: string;
  readonly random: Random;
  readonly happenings: Happening[] = [];
  /** Requests by `service:Operation`, including denied and failed ones. */
  readonly callCounts: Record<string, number> = {};
  readonly denied: { action: string; resource: string; role: string; reason: string }[] = [];
  authorizer: Authorizer | undefined;
  faults: Faults;
  /** Multiplies every latency; 0 while the drill builds the state before the story begins. */
  latencyScale = 1;
  #services = new Map<ServiceName, Service>();
  #buckets = new Map<string, { tokens: number; at: number }>();
  #calls = 0;
  #latencyRandom: Random;
  #listeners: ((happening: Happening) => void)[] = [];
  #onEvent: ((event: AwsEvent) => void) | undefined;
  #failure: Error | undefined;

  constructor(options: CloudOptions) {
    this.clock = options.clock;
    this.region = options.region ?? 'us-east-1';
    this.account = options.account ?? '123456789012';
    this.random = new Random(options.seed);
    this.#latencyRandom = this.random.fork('latency');
    this.faults = options.faults ?? {};
    this.authorizer = options.authorizer;
  }

  register(service: Service): void {
    this.#services.set(service.name, service);
  }

  /** Whether an operation can be called at all. */
  models(service: ServiceName, operation: string): boolean {
    return this.#services.get(service)?.operations[operation] !== undefined;
  }

  /**
   * One API request, the way every caller takes: counted, fault-injected, authorized, throttled, delayed, carried out.
   * @throws AwsError what AWS would answer
   */
  async call(request: ApiRequest): Promise<Shape> {
    const { service, operation, input, caller } = request;
    const name = `${service}:${operation}`;
    const number = this.#calls++;
    this.callCounts[name] = (this.callCounts[name] ?? 0) + 1;
    const model = this.#services.get(service)?.operations[operation];
    if (!model) throw this.fail(new NotModelled(`the local cloud does not model ${name}`));
    const fault = this.faults.onCall?.(request, number);
    if (fault && 'kill' in fault && fault.kill === 'before') {
      caller.invocation?.kill();
      return new Promise(() => {});
    }
    const roundTrip = this.latency(model.latency ?? 'api');
    await this.clock.sleep(roundTrip / 2 + (fault && 'delayMs' in fault ? fault.delayMs : 0));
    this.record('call', name, { number, caller: caller.session, input });
    try {
      if (fault && 'error' in fault && fault.when !== 'after') throw fault.error;
      for (const authorization of model.authorize(input, caller)) {
        const reason = await this.deny(caller, authorization);
        if (reason === undefined) continue;
        throw new AwsError(
          ACCESS_DENIED[service] ?? 'AccessDeniedException',
          `User: ${caller.roleArn} is not authorized to perform: ${authorization.action} on resource: ${authorization.resource} because ${reason}`,
          403,
        );
      }
      const bucket = typeof model.bucket === 'function' ? model.bucket(input) : model.bucket;
      if (bucket) this.#take(bucket, service);
      const output = await model.invoke(input, caller);
      await this.clock.sleep(roundTrip / 2);
      if (fault && 'error' in fault) throw fault.error;
      if (fault && 'kill' in fault && fault.kill === 'after') {
        caller.invocation?.kill();
        return new Promise(() => {});
      }
      return output;
    } catch (error) {
      if (!(error instanceof AwsError)) throw this.fail(error instanceof Error ? error : new Error(String(error)));
      this.record('call-failed', name, { number, code: error.code, message: error.message });
      throw error;
    }
  }

  /**
   * Asks IAM, and records a refusal. {@link call} does so for every request; services use it for what happens under a
   * role without a request of its own (an agent's channels). Resolves to undefined when allowed, else to why not.
   */
  async deny(caller: Caller, authorization: Authorization): Promise<string | undefined> {
    const reason = await this.authorizer?.deny(caller, authorization);
    if (reason === undefined) return undefined;
    const { action, resource } = authorization;
    this.denied.push({ action, resource, role: caller.roleArn, reason });
    this.record('denied', action, { resource, role: caller.roleArn, reason });
    return reason;
  }

  #take(bucket: Bucket, service: ServiceName): void {
    const now = this.clock.now();
    const state = this.#buckets.get(bucket.name) ?? { tokens: bucket.capacity, at: now };
    state.tokens = Math.min(bucket.capacity, state.tokens + ((now - state.at) / 1000) * bucket.refillPerSecond);
    state.at = now;
    this.#buckets.set(bucket.name, state);
    if (state.tokens < 1) {
      throw new AwsError(
        service === 'ec2' ? 'RequestLimitExceeded' : 'ThrottlingException',
        'Request limit exceeded.',
        service === 'ec2' ? 503 : 400,
      );
    }
    state.tokens -= 1;
  }

  /** A sampled latency in milliseconds, after faults and scale. */
  latency(name: LatencyName, subject?: string): number {
    const sampled = sampleLatency(name, this.#latencyRandom);
    return (this.faults.onLatency?.(name, sampled, subject) ?? sampled) * this.latencyScale;
  }

  /** Hands an AWS service event to the event bus, through the fault hook (loss, delay, duplicates). */
  emit(event: AwsEvent): void {
    const delays = this.faults.onEvent?.(event)?.delaysMs ?? [0];
    for (const delay of delays) this.clock.after(delay, () => this.#onEvent?.(event));
  }

  /** The event bus registers itself here. */
  onEvent(handler: (event: AwsEvent) => void): void {
    this.#onEvent = handler;
  }

  record(kind: string, subject: string, detail: Readonly<Record<string, unknown>> = {}): void {
    const happening = { at: this.clock.now(), kind, subject, detail };
    this.happenings.push(happening);
    for (const listener of this.#listeners) listener(happening);
  }

  onHappening(listener: (happening: Happening) => void): void {
    this.#listeners.push(listener);
  }

  /** Remembers the first error of the model itself (not AWS's answers): the run is void. Returns it, to be thrown. */
  fail(error: Error): Error {
    this.#failure ??= error;
    return error;
  }

  /** The first error of the model itself, if there was one. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** `arn:aws:<service>:<region>:<account>:<resource>` */
  arn(service: string, resource: string): string {
    return `arn:aws:${service}:${this.region}:${this.account}:${resource}`;
  }
}

/**
 * Refuses members that the model does not honour, so that nothing is silently ignored.
 * @throws NotModelled naming the members
 */
export function onlyKnown(what: string, input: Shape, known: readonly string[]): void {
  const unknown = Object.keys(input ?? {}).filter((key) => input[key] !== undefined && !known.includes(key));
  if (unknown.length > 0) throw new NotModelled(`${what}: the local cloud does not model ${unknown.join(', ')}`);
}
