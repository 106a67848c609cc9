import type { Timer } from './clock.ts';
import { compilePattern } from './event-pattern.ts';
import {
  type ApiRequest,
  AwsError,
  type AwsEvent,
  type Caller,
  type Cloud,
  NotModelled,
  type Operation,
  onlyKnown,
  type Service,
  type Shape,
} from './kernel.ts';
import type { Random } from './random.ts';
import type { ResourceHandler, ResourceHandlers } from './resource.ts';
import { parseSchedule, type Schedule } from './schedule-expression.ts';

export interface EventBridgeOptions {
  /** Whether the function's own policy lets the service invoke it on behalf of the rule. */
  mayInvoke(functionArn: string, principal: string, sourceArn: string): boolean;
  /** @see Iam.assume */
  assume(roleArn: string, servicePrincipal: string, context: Readonly<Record<string, string>>): Promise<void>;
  /** @see Sqs.urlOf */
  queueUrl(queueArn: string): string;
}

interface Rule {
  readonly name: string;
  readonly arn: string;
  readonly matches: ((event: object) => boolean) | undefined;
  readonly schedule: Schedule | undefined;
  readonly targets: readonly Target[];
  timer: Timer | undefined;
}

interface Target {
  readonly arn: string;
  readonly roleArn: string | undefined;
  readonly deadLetterQueueArn: string | undefined;
  readonly maximumRetryAttempts: number;
  readonly maximumEventAgeMs: number;
  /** What the target gets for an event. */
  readonly input: (event: AwsEvent, rule: Rule) => string;
}

const PRINCIPAL = 'events.amazonaws.com';

/** Longest wait between two attempts: 24 hours shared by 185 attempts; the waits themselves are not documented. */
const MAXIMUM_BACKOFF_MS = 480_000;

/** The default event bus: rules on events of AWS services and on schedules, and the delivery to their targets. */
export class EventBridge implements Service {
  readonly name = 'events';
  readonly operations: Readonly<Record<string, Operation>> = {};
  readonly handlers: ResourceHandlers;
  readonly #cloud: Cloud;
  readonly #options: EventBridgeOptions;
  readonly #random: Random;
  readonly #rules = new Map<string, Rule>();
  #schedulesPaused = false;

  constructor(cloud: Cloud, options: EventBridgeOptions) {
    this.#cloud = cloud;
    this.#options = options;
    this.#random = cloud.random.fork('events');
    this.handlers = { 'AWS::Events::Rule': this.#ruleHandler() };
    cloud.register(this);
    cloud.onEvent((event) => this.#dispatch(event));
  }

  /** The names of the enabled rules. */
  get rules(): readonly string[] {
    return [...this.#rules.keys()];
  }

  /** Schedules stop firing by themselves until {@link resumeSchedules}. */
  pauseSchedules(): void {
    this.#schedulesPaused = true;
    for (const rule of this.#rules.values()) rule.timer?.cancel();
  }

  resumeSchedules(): void {
    if (!this.#schedulesPaused) return;
    this.#schedulesPaused = false;
    for (const rule of this.#rules.values()) this.#arm(rule);
  }

  /**
   * Fires a scheduled rule now, besides its schedule.
   * @throws Error when no enabled rule has this name and a schedule
   */
  tick(ruleName: string): void {
    const rule = this.#rules.get(ruleName);
    if (!rule?.schedule) throw new Error(`there is no enabled rule ${ruleName} with a schedule`);
    this.#cloud.emit({
      version: '0',
      id: this.#random.uuid(),
      'detail-type': 'Scheduled Event',
      source: 'aws.events',
      account: this.#cloud.account,
      time: `${new Date(this.#cloud.clock.now()).toISOString().slice(0, 19)}Z`,
      region: this.#cloud.region,
      resources: [rule.arn],
      detail: {},
    });
  }

  #arm(rule: Rule): void {
    if (!rule.schedule || this.#schedulesPaused) return;
    const now = this.#cloud.clock.now();
    const next = rule.schedule(now);
    if (next === Number.POSITIVE_INFINITY) return;
    rule.timer = this.#cloud.clock.after(next - now, () => {
      this.tick(rule.name);
      this.#arm(rule);
    });
  }

  #dispatch(event: AwsEvent): void {
    const isScheduled = event.source === 'aws.events' && event['detail-type'] === 'Scheduled Event';
    const matching = [...this.#rules.values()].filter((rule) =>
      isScheduled ? event.resources.includes(rule.arn) : rule.matches?.(event),
    );
    const rules = matching.map(({ name }) => name);
    this.#cloud.record('event', event['detail-type'], { id: event.id, detail: event.detail, rules });
    for (const rule of matching) {
      for (const target of rule.targets) {
        this.#deliver(event, rule, target).catch((error: unknown) => {
          this.#cloud.fail(error instanceof Error ? error : new Error(String(error)));
        });
      }
    }
  }

  /** Delivers, and tries again as the target's retry policy says; what cannot be delivered goes to the dead letters. */
  async #deliver(event: AwsEvent, rule: Rule, target: Target): Promise<void> {
    const { clock } = this.#cloud;
    const receivedAt = clock.now();
    const input = target.input(event, rule);
    await clock.sleep(this.#cloud.latency('events.deliver', target.arn));
    for (let retries = 0; ; retries++) {
      const error = await this.#attempt(input, rule, target);
      if (!error) return;
      const undelivered = { event, rule, target, error, retries };
      if (!isWorthARetry(error)) return this.#bury(undelivered);
      if (retries >= target.maximumRetryAttempts) return this.#bury(undelivered, 'MaximumRetryAttempts');
      const backoff = Math.min(1000 * 2 ** retries, MAXIMUM_BACKOFF_MS) * (0.5 + this.#random.next());
      if (clock.now() + backoff - receivedAt > target.maximumEventAgeMs) {
        return this.#bury(undelivered, 'MaximumEventAgeInSeconds');
      }
      await clock.sleep(backoff);
    }
  }

  async #attempt(input: string, rule: Rule, target: Target): Promise<AwsError | undefined> {
    try {
      await this.#cloud.call(await this.#requestTo(target, input, rule));
      return undefined;
    } catch (error) {
      if (error instanceof AwsError) return error;
      throw error;
    }
  }

  async #requestTo(target: Target, input: string, rule: Rule): Promise<ApiRequest> {
    const caller = this.#callerFor(rule);
    switch (serviceOf(target.arn)) {
      case 'lambda': {
        if (!this.#options.mayInvoke(target.arn, PRINCIPAL, rule.arn)) {
          throw new AwsError('AccessDeniedException', `${PRINCIPAL} may not invoke ${target.arn} for ${rule.arn}`, 403);
        }
        const invocation = { FunctionName: target.arn, InvocationType: 'Event', Payload: Buffer.from(input) };
        return { service: 'lambda', operation: 'Invoke', input: invocation, caller };
      }
      case 'sqs': {
        const message = { QueueUrl: this.#options.queueUrl(target.arn), MessageBody: input };
        return { service: 'sqs', operation: 'SendMessage', input: message, caller };
      }
      case 'sns':
        return { service: 'sns', operation: 'Publish', input: { TopicArn: target.arn, Message: input }, caller };
      default: {
        const roleArn = target.roleArn ?? '';
        await this.#options.assume(roleArn, PRINCIPAL, caller.context ?? {});
        const start = { stateMachineArn: target.arn, input };
        return {
          service: 'states',
          operation: 'StartExecution',
          input: start,
          caller: { roleArn, session: rule.name },
        };
      }
    }
  }

  /** EventBridge in its own name: the target's resource policy decides. */
  #callerFor(rule: Rule): Caller {
    const context = { 'aws:SourceArn': rule.arn, 'aws:SourceAccount': this.#cloud.account };
    return { roleArn: PRINCIPAL, session: rule.name, context };
  }

  async #bury({ event, rule, target, error, retries }: Undelivered, exhausted?: string): Promise<void> {
    this.#cloud.record('undelivered', target.arn, { rule: rule.name, id: event.id, reason: String(error), retries });
    if (target.deadLetterQueueArn === undefined) return;
    const attributes = {
      RULE_ARN: rule.arn,
      TARGET_ARN: target.arn,
      ERROR_CODE: deadLetterCode(error),
      ERROR_MESSAGE: error.message,
      RETRY_ATTEMPTS: String(retries),
      ...(exhausted && { EXHAUSTED_RETRY_CONDITION: exhausted }),
    };
    const MessageAttributes = Object.fromEntries(
      Object.entries(attributes).map(([name, value]) => [name, { DataType: 'String', StringValue: value }]),
    );
    try {
      const QueueUrl = this.#options.queueUrl(target.deadLetterQueueArn);
      const input = { QueueUrl, MessageBody: JSON.stringify(event), MessageAttributes };
      await this.#cloud.call({ service: 'sqs', operation: 'SendMessage', input, caller: this.#callerFor(rule) });
    } catch (failure) {
      if (!(failure instanceof AwsError)) throw failure;
      this.#cloud.record('undelivered', target.deadLetterQueueArn, { rule: rule.name, reason: String(failure) });
    }
  }

  #ruleHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        onlyKnown('AWS::Events::Rule', properties, [
          'Description',
          'EventPattern',
          'Name',
          'ScheduleExpression',
          'State',
          'Tags',
          'Targets',
        ]);
        const { EventPattern, ScheduleExpression, State = 'ENABLED', Targets = [] } = properties;
        const name: string = properties.Name ?? stack.physicalName(logicalId);
        const rule: Rule = {
          name,
          arn: this.#cloud.arn('events', `rule/${name}`),
          matches: EventPattern && compilePattern(EventPattern),
          schedule: ScheduleExpression && parseSchedule(ScheduleExpression),
          targets: Targets.map(parseTarget),
          timer: undefined,
        };
        if (State === 'ENABLED') {
          this.#rules.set(name, rule);
          this.#arm(rule);
        } else if (State !== 'DISABLED') throw new NotModelled(`rule state ${State}`);
        return { ref: name, attributes: { Arn: rule.arn } };
      },
      delete: ({ ref }) => {
        this.#rules.get(ref)?.timer?.cancel();
        this.#rules.delete(ref);
      },
    };
  }
}

interface Undelivered {
  readonly event: AwsEvent;
  readonly rule: Rule;
  readonly target: Target;
  readonly error: AwsError;
  readonly retries: number;
}

function parseTarget(target: Shape): Target {
  onlyKnown('AWS::Events::Rule Target', target, [
    'Arn',
    'DeadLetterConfig',
    'Id',
    'Input',
    'InputPath',
    'InputTransformer',
    'RetryPolicy',
    'RoleArn',
  ]);
  const service = serviceOf(target.Arn);
  if (!['lambda', 'sqs', 'sns', 'states'].includes(service)) throw new NotModelled(`event target ${target.Arn}`);
  if (service === 'states' && !target.RoleArn) {
    throw new AwsError('ValidationException', `RoleArn is required for target ${target.Arn}.`);
  }
  if (service !== 'states' && target.RoleArn) throw new NotModelled(`RoleArn for event target ${target.Arn}`);
  onlyKnown('RetryPolicy', target.RetryPolicy, ['MaximumEventAgeInSeconds', 'MaximumRetryAttempts']);
  const { MaximumEventAgeInSeconds = 86_400, MaximumRetryAttempts = 185 } = target.RetryPolicy ?? {};
  return {
    arn: target.Arn,
    roleArn: target.RoleArn,
    deadLetterQueueArn: target.DeadLetterConfig?.Arn,
    maximumRetryAttempts: MaximumRetryAttempts,
    maximumEventAgeMs: MaximumEventAgeInSeconds * 1000,
    input: compileInput(target),
  };
}

function compileInput({ Input, InputPath, InputTransformer }: Shape): Target['input'] {
  if (Input !== undefined) return () => Input;
  if (InputPath !== undefined) {
    const path = parsePath(InputPath);
    return (event) => JSON.stringify(valueAt(event, path));
  }
  return InputTransformer ? compileTransformer(InputTransformer) : (event) => JSON.stringify(event);
}

/** @see docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html */
function compileTransformer(transformer: Shape): Target['input'] {
  onlyKnown('InputTransformer', transformer, ['InputPathsMap', 'InputTemplate']);
  const paths = Object.entries<string>(transformer.InputPathsMap ?? {}).map(
    ([name, path]) => [name, parsePath(path)] as const,
  );
  const template: string = transformer.InputTemplate;
  const known = new Set([...paths.map(([name]) => name), 'aws.events.rule-arn', 'aws.events.rule-name']);
  for (const [, name = ''] of template.matchAll(PLACEHOLDER)) {
    if (!known.has(name)) throw new NotModelled(`InputTemplate variable ${name}`);
  }
  return (event, rule) => {
    const variables = new Map<string, unknown>(paths.map(([name, path]) => [name, valueAt(event, path)]));
    variables.set('aws.events.rule-arn', rule.arn).set('aws.events.rule-name', rule.name);
    return fill(template, variables);
  };
}

const PLACEHOLDER = /<([\w.-]+)>/g;

/** Within quotation marks a variable stands as it is, elsewhere as JSON. */
function fill(template: string, variables: ReadonlyMap<string, unknown>): string {
  let quoted = false;
  return template.replace(/\\.|"|<([\w.-]+)>/gs, (token, name: string | undefined) => {
    if (token === '"') quoted = !quoted;
    if (name === undefined) return token;
    const value = variables.get(name);
    const json = JSON.stringify(value);
    return quoted && typeof value === 'string' ? json.slice(1, -1) : quoted ? json.replaceAll('"', '\\"') : json;
  });
}

type Path = readonly (string | number)[];

/** `$.detail.instance-id`, `$.resources[0]` */
function parsePath(path: string): Path {
  if (!/^\$(\.[\w/-]+|\[\d+\])*$/.test(path)) throw new NotModelled(`JSON path ${path}`);
  return [...path.matchAll(/\.([\w/-]+)|\[(\d+)\]/g)].map(([, name, index]) => name ?? Number(index));
}

/** @throws NotModelled where there is no value: what EventBridge makes of that depends on the template around it */
function valueAt(event: AwsEvent, path: Path): unknown {
  let value: Shape = event;
  for (const step of path) value = value?.[step];
  if (value === undefined) throw new NotModelled(`the event ${event['detail-type']} has no ${path.join('.')}`);
  return value;
}

function serviceOf(arn: string): string {
  return arn.split(':')[2] ?? '';
}

/** Missing permissions and resources are not retried: docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html */
function isWorthARetry(error: AwsError): boolean {
  return error.status >= 500 || deadLetterCode(error) === 'THROTTLING';
}

/** The codes are from the same page; which error gets which is inferred from their names. */
function deadLetterCode({ code, status }: AwsError): string {
  if (code.startsWith('AccessDenied')) return 'NO_PERMISSIONS';
  if (/NotFound|DoesNotExist/.test(code)) return 'NO_RESOURCE';
  if (/Throttl|TooManyRequests|LimitExceeded/.test(code)) return 'THROTTLING';
  return status >= 500 ? 'INTERNAL_ERROR' : 'ERROR_FROM_TARGET';
}
