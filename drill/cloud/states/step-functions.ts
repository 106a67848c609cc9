import { AwsError, type Cloud, NotModelled, type Operation, onlyKnown, type Service, type Shape } from '../kernel.ts';
import type { Random } from '../random.ts';
import type { CreatedResource, ResourceHandlers, StackContext } from '../resource.ts';
import type { OpenTask } from './attempt.ts';
import { type Definition, parseDefinition } from './definition.ts';
import { Execution, type StateMachine } from './execution.ts';
import { Evaluator, uuid } from './expressions.ts';
import { HISTORY_LIMIT, PAYLOAD_LIMIT } from './history.ts';

const DAY_MS = 86_400_000;
/** A closed execution's name can be used again after this long. @see API_StartExecution.html */
const NAME_RETENTION_MS = 90 * DAY_MS;
/** @see dg/redrive-executions.html, "Redrive eligibility" */
const REDRIVABLE_MS = 14 * DAY_MS;
/** @see API_RedriveExecution.html, clientToken */
const REDRIVE_TOKEN_MS = 15 * 60_000;

/** @see API_StartExecution.html, "A name must not contain" */
// biome-ignore lint/suspicious/noControlCharactersInRegex: AWS lists control characters among those a name must not have
const NAME = /^[^\s<>{}[\]?*"#%\\^|~`$&,;:/\u0000-\u001f\u007f-\u009f\ufffe\uffff\ud800-\udfff]{1,80}$/;

const TOKEN_PREFIX = 'AQCwAAAAKgAAAAMAAAAAAAAAA';
/** As long as those seen in recorded executions: a token has to fit into whatever carries it. */
const TOKEN_LENGTH = 748;
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

const PROPERTIES = [
  'StateMachineName',
  'StateMachineType',
  'DefinitionString',
  'Definition',
  'DefinitionSubstitutions',
  'RoleArn',
  'LoggingConfiguration',
  'TracingConfiguration',
  'Tags',
];

/**
 * Step Functions: state machines in the Amazon States Language with JSONata, their executions and task tokens. It loses
 * nothing and is always there, as the real one; what can fail are the calls that its tasks make.
 */
export class StepFunctions implements Service {
  readonly name = 'states';
  readonly operations: Readonly<Record<string, Operation>>;
  readonly handlers: ResourceHandlers;
  readonly #cloud: Cloud;
  readonly #random: Random;
  readonly #evaluator: Evaluator;
  readonly #machines = new Map<string, StateMachine>();
  /** By execution ARN, in the order in which they started. */
  readonly #executions = new Map<string, Execution>();
  readonly #tasks = new Map<string, OpenTask | 'closed'>();
  readonly #redriveTokens = new Map<string, { readonly at: number; readonly redriveDate: Date }>();

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
    this.#random = cloud.random.fork('states');
    this.#evaluator = new Evaluator(cloud.clock, this.#random.fork('expressions'));
    this.operations = this.#describeOperations();
    this.handlers = { 'AWS::StepFunctions::StateMachine': this.#stateMachineHandler() };
  }

  /** All executions that the service remembers, in the order in which they started. */
  get executions(): readonly Execution[] {
    return [...this.#executions.values()];
  }

  /** All state machines that there are. */
  get machines(): readonly Pick<StateMachine, 'arn' | 'name'>[] {
    return [...this.#machines.values()];
  }

  /**
   * Settles when an execution has closed, whatever its status.
   * @throws the error of the local cloud itself, where that is what ended it
   */
  whenClosed(executionArn: string): Promise<void> {
    return (this.#executions.get(executionArn) ?? this.#execution(executionArn)).settled;
  }

  #describeOperations(): Readonly<Record<string, Operation>> {
    const onMachine = (action: string) => (input: Shape) => [
      {
        action: `states:${action}`,
        resource: String(input?.stateMachineArn),
        context: tagContext(this.#machines.get(input?.stateMachineArn)?.tags ?? {}),
      },
    ];
    const onExecution = (action: string) => (input: Shape) => [
      { action: `states:${action}`, resource: String(input?.executionArn) },
    ];
    // The actions on task tokens have no resource types.
    const onToken = (action: string) => () => [{ action: `states:${action}`, resource: '*' }];
    const operation = (
      authorize: Operation['authorize'],
      known: readonly string[],
      invoke: (input: Shape) => Promise<Shape> | Shape,
    ): Operation => ({
      authorize,
      invoke: (input: Shape) => {
        onlyKnown('states', input, known);
        return invoke(input ?? {});
      },
    });
    return {
      StartExecution: operation(onMachine('StartExecution'), ['stateMachineArn', 'name', 'input'], (input) =>
        this.#startExecution(input),
      ),
      StartSyncExecution: operation(onMachine('StartSyncExecution'), ['stateMachineArn', 'name', 'input'], (input) =>
        this.#startSyncExecution(input),
      ),
      DescribeExecution: operation(onExecution('DescribeExecution'), ['executionArn'], (input) =>
        describe(this.#execution(input.executionArn), this.#cloud.clock.now()),
      ),
      ListExecutions: operation(
        onMachine('ListExecutions'),
        ['stateMachineArn', 'statusFilter', 'maxResults', 'nextToken'],
        (input) => this.#listExecutions(input),
      ),
      StopExecution: operation(onExecution('StopExecution'), ['executionArn', 'error', 'cause'], (input) =>
        this.#stopExecution(input),
      ),
      RedriveExecution: operation(onExecution('RedriveExecution'), ['executionArn', 'clientToken'], (input) =>
        this.#redriveExecution(input),
      ),
      GetExecutionHistory: operation(
        onExecution('GetExecutionHistory'),
        ['executionArn', 'maxResults', 'reverseOrder', 'nextToken'],
        (input) => this.#getExecutionHistory(input),
      ),
      SendTaskSuccess: operation(onToken('SendTaskSuccess'), ['taskToken', 'output'], (input) => {
        const output = parseJson(input.output, 'InvalidOutput', 'Invalid Output');
        this.#openTask(input.taskToken).succeed(output);
        return {};
      }),
      SendTaskFailure: operation(onToken('SendTaskFailure'), ['taskToken', 'error', 'cause'], (input) => {
        this.#openTask(input.taskToken).fail(input.error, input.cause);
        return {};
      }),
      SendTaskHeartbeat: operation(onToken('SendTaskHeartbeat'), ['taskToken'], (input) => {
        this.#openTask(input.taskToken).heartbeat();
        return {};
      }),
    };
  }

  #startExecution(input: Shape): Shape {
    const machine = this.#machine(input.stateMachineArn);
    const text = this.#input(input.input);
    const name = this.#name(input.name);
    const arn = this.#cloud.arn(
      'states',
      machine.type === 'EXPRESS'
        ? `express:${machine.name}:${name}:${uuid(this.#random)}`
        : `execution:${machine.name}:${name}`,
    );
    const existing = this.#executions.get(arn);
    if (existing) {
      const { status, startDate, stopDate } = existing;
      if (status === 'RUNNING' && existing.input === text) return { executionArn: arn, startDate };
      const now = this.#cloud.clock.now();
      if (now - (stopDate?.getTime() ?? now) < NAME_RETENTION_MS) {
        throw new AwsError('ExecutionAlreadyExists', `Execution Already Exists: '${arn}'`);
      }
    }
    const execution = this.#start(machine, name, arn, text);
    return { executionArn: arn, startDate: execution.startDate };
  }

  async #startSyncExecution(input: Shape): Promise<Shape> {
    const machine = this.#machine(input.stateMachineArn);
    if (machine.type !== 'EXPRESS') throw typeNotSupported();
    const text = this.#input(input.input);
    const name = this.#name(input.name);
    const arn = this.#cloud.arn('states', `express:${machine.name}:${name}:${uuid(this.#random)}`);
    const execution = this.#start(machine, name, arn, text);
    await execution.settled;
    const { executionArn, stateMachineArn, startDate, stopDate, status, output, error, cause } = describe(
      execution,
      this.#cloud.clock.now(),
    );
    return {
      executionArn,
      stateMachineArn,
      name,
      startDate,
      stopDate,
      status,
      input: text,
      inputDetails: { included: true },
      ...(output === undefined ? {} : { output, outputDetails: { included: true } }),
      ...(error === undefined ? {} : { error }),
      ...(cause === undefined ? {} : { cause }),
    };
  }

  #start(machine: StateMachine, name: string, arn: string, input: string): Execution {
    const context = {
      cloud: this.#cloud,
      random: this.#random,
      evaluator: this.#evaluator,
      openTask: (task: OpenTask) => this.#issueToken(task),
      statusChanged: (changed: Execution) => this.#emitStatusChange(changed),
    };
    const execution = new Execution(context, machine, name, arn, input);
    this.#executions.delete(arn); // so that a name used again is listed where it belongs
    this.#executions.set(arn, execution);
    execution.start();
    return execution;
  }

  #listExecutions(input: Shape): Shape {
    const machine = this.#machine(input.stateMachineArn);
    if (machine.type === 'EXPRESS') throw typeNotSupported();
    const newestFirst = [...this.#executions.values()]
      .filter((execution) => execution.machine === machine)
      .filter((execution) => input.statusFilter === undefined || execution.status === input.statusFilter)
      .reverse();
    const { items, nextToken } = page(newestFirst, input, (execution) => execution.arn);
    return {
      executions: items.map((execution) => ({
        executionArn: execution.arn,
        stateMachineArn: machine.arn,
        name: execution.name,
        status: execution.status,
        startDate: execution.startDate,
        ...(execution.stopDate ? { stopDate: execution.stopDate } : {}),
        redriveCount: execution.redriveCount,
        ...(execution.redriveDate ? { redriveDate: execution.redriveDate } : {}),
      })),
      ...nextToken,
    };
  }

  #stopExecution(input: Shape): Shape {
    const execution = this.#execution(input.executionArn);
    if (execution.status === 'RUNNING') execution.abort(input.error, input.cause);
    return { stopDate: execution.stopDate };
  }

  async #redriveExecution(input: Shape): Promise<Shape> {
    const execution = this.#execution(input.executionArn);
    const now = this.#cloud.clock.now();
    const token = input.clientToken === undefined ? undefined : `${execution.arn} ${input.clientToken}`;
    const earlier = token === undefined ? undefined : this.#redriveTokens.get(token);
    if (earlier && now - earlier.at < REDRIVE_TOKEN_MS) return { redriveDate: earlier.redriveDate };
    const reason = notRedrivable(execution, now);
    if (reason !== undefined) {
      throw new AwsError('ExecutionNotRedrivable', `Execution Not Redrivable: '${reason}'`);
    }
    await execution.redrive();
    const redriveDate = execution.redriveDate as Date;
    if (token !== undefined) this.#redriveTokens.set(token, { at: now, redriveDate });
    return { redriveDate };
  }

  #getExecutionHistory(input: Shape): Shape {
    const { events } = this.#execution(input.executionArn);
    const ordered = input.reverseOrder === true ? [...events].reverse() : events;
    const { items, nextToken } = page(ordered, input, (event) => String(event.id));
    return { events: items, ...nextToken };
  }

  #machine(arn: unknown): StateMachine {
    const machine = this.#machines.get(String(arn));
    if (!machine) throw new AwsError('StateMachineDoesNotExist', `State Machine Does Not Exist: '${arn}'`);
    return machine;
  }

  #execution(arn: unknown): Execution {
    if (String(arn).split(':')[5] === 'express') {
      throw new AwsError('InvalidArn', "Invalid Arn: 'Resource type not valid in this context: express'");
    }
    const execution = this.#executions.get(String(arn));
    if (!execution) throw new AwsError('ExecutionDoesNotExist', `Execution Does Not Exist: '${arn}'`);
    return execution;
  }

  #input(text: unknown = '{}'): string {
    parseJson(text, 'InvalidExecutionInput', 'Invalid State Machine Execution Input');
    return String(text);
  }

  #name(name: unknown): string {
    if (name === undefined) return uuid(this.#random);
    if (typeof name !== 'string' || !NAME.test(name)) throw new AwsError('InvalidName', `Invalid Name: '${name}'`);
    return name;
  }

  #issueToken(task: OpenTask): { token: string; close(): void } {
    let token = TOKEN_PREFIX;
    while (token.length < TOKEN_LENGTH) token += BASE64.charAt(this.#random.below(BASE64.length));
    this.#tasks.set(token, task);
    return { token, close: () => this.#tasks.set(token, 'closed') };
  }

  #openTask(token: unknown): OpenTask {
    if (typeof token !== 'string' || token.length !== TOKEN_LENGTH || !token.startsWith(TOKEN_PREFIX)) {
      throw new AwsError('InvalidToken', "Invalid Token: 'Invalid token'");
    }
    const task = this.#tasks.get(token);
    if (task === undefined) throw new AwsError('TaskDoesNotExist', "Task Does Not Exist: 'Unknown token'");
    if (task === 'closed') {
      throw new AwsError('TaskTimedOut', "Task Timed Out: 'Provided task does not exist anymore'");
    }
    return task;
  }

  /** @see dg/eventbridge-integration.html; Express executions emit nothing */
  #emitStatusChange(execution: Execution): void {
    if (execution.machine.type === 'EXPRESS') return;
    const now = this.#cloud.clock.now();
    const reason = notRedrivable(execution, now);
    this.#cloud.emit({
      version: '0',
      id: uuid(this.#random),
      'detail-type': 'Step Functions Execution Status Change',
      source: 'aws.states',
      account: this.#cloud.account,
      time: `${new Date(now).toISOString().slice(0, 19)}Z`,
      region: this.#cloud.region,
      resources: [execution.arn],
      detail: {
        executionArn: execution.arn,
        stateMachineArn: execution.machine.arn,
        name: execution.name,
        status: execution.status,
        startDate: execution.startDate.getTime(),
        stopDate: execution.stopDate?.getTime() ?? null,
        input: execution.input,
        inputDetails: { included: true },
        output: execution.output ?? null,
        outputDetails: execution.output === undefined ? null : { included: true },
        stateMachineVersionArn: null,
        stateMachineAliasArn: null,
        redriveCount: execution.redriveCount,
        redriveDate: execution.redriveDate?.toISOString() ?? null,
        redriveStatus: reason === undefined ? 'REDRIVABLE' : 'NOT_REDRIVABLE',
        redriveStatusReason: reason ?? `Execution is ${execution.status} and is redrivable`,
        error: execution.error ?? null,
        cause: execution.cause ?? null,
      },
    });
  }

  #stateMachineHandler(): ResourceHandlers[string] {
    return {
      create: (logicalId, properties, stack) => this.#createStateMachine(logicalId, properties, stack),
      update: (created, properties) => {
        const machine = this.#machine(created.ref);
        const { type, name } = stateMachineIdentity(properties, machine.name);
        if (type !== machine.type || name !== machine.name) {
          throw new NotModelled(`${created.ref}: the local cloud does not replace a state machine`);
        }
        machine.roleArn = properties.RoleArn;
        machine.definition = this.#definition(properties, type);
      },
      delete: (created) => {
        this.#machines.delete(created.ref);
      },
    };
  }

  #createStateMachine(logicalId: string, properties: Shape, stack: StackContext): CreatedResource {
    const { type, name } = stateMachineIdentity(properties, stack.physicalName(logicalId));
    const arn = this.#cloud.arn('states', `stateMachine:${name}`);
    if (this.#machines.has(arn)) {
      throw new AwsError('StateMachineAlreadyExists', `State Machine Already Exists: '${arn}'`);
    }
    const tags = Object.fromEntries((properties.Tags ?? []).map(({ Key, Value }: Shape) => [Key, Value]));
    const definition = this.#definition(properties, type);
    this.#machines.set(arn, { arn, name, type, tags, roleArn: properties.RoleArn, definition });
    return { ref: arn, attributes: { Arn: arn, Name: name } };
  }

  #definition(properties: Shape, type: StateMachine['type']): Definition {
    return parseDefinition(definitionSource(properties), {
      type,
      models: ({ service, operation }) => this.#cloud.models(service, operation),
    });
  }
}

/** @throws NotModelled for properties that the model does not honour. Logs and traces are accepted, and kept nowhere. */
function stateMachineIdentity(properties: Shape, defaultName: string): { type: StateMachine['type']; name: string } {
  onlyKnown('AWS::StepFunctions::StateMachine', properties, PROPERTIES);
  onlyKnown('LoggingConfiguration', properties.LoggingConfiguration, ['Level', 'IncludeExecutionData', 'Destinations']);
  onlyKnown('TracingConfiguration', properties.TracingConfiguration, ['Enabled']);
  if (typeof properties.RoleArn !== 'string') throw new AwsError('ValidationException', 'RoleArn is required');
  const type = properties.StateMachineType ?? 'STANDARD';
  if (type !== 'STANDARD' && type !== 'EXPRESS') {
    throw new AwsError('ValidationException', `'${type}' is not a state machine type`);
  }
  return { type, name: properties.StateMachineName ?? defaultName };
}

/** The definition with its substitutions made. @throws AwsError `InvalidDefinition` where that is not JSON */
function definitionSource(properties: Shape): Shape {
  const substitutions: Record<string, unknown> = properties.DefinitionSubstitutions ?? {};
  const template: string = properties.DefinitionString ?? JSON.stringify(properties.Definition) ?? '';
  const text = template.replace(/\$\{(\w+)\}/g, (whole, name: string) =>
    name in substitutions ? String(substitutions[name]) : whole,
  );
  try {
    return JSON.parse(text);
  } catch (error) {
    const problem = `INVALID_JSON_DESCRIPTION: ${(error as Error).message}`;
    throw new AwsError('InvalidDefinition', `Invalid State Machine Definition: '${problem}'`);
  }
}

function typeNotSupported(): AwsError {
  return new AwsError('StateMachineTypeNotSupported', 'This operation is not supported by this type of state machine');
}

function tagContext(tags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).map(([key, value]) => [`aws:ResourceTag/${key}`, value]));
}

function parseJson(text: unknown, code: string, label: string): unknown {
  if (typeof text !== 'string') throw new AwsError(code, `${label}: 'null'`);
  if (Buffer.byteLength(text) > PAYLOAD_LIMIT) {
    throw new AwsError(code, `${label}: 'longer than ${PAYLOAD_LIMIT} bytes'`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AwsError(code, `${label}: '${(error as Error).message}'`);
  }
}

/** Why an execution cannot be redriven, in AWS's words. @see API_DescribeExecution.html, redriveStatusReason */
function notRedrivable(execution: Execution, now: number): string | undefined {
  if (execution.status === 'RUNNING' || execution.status === 'SUCCEEDED') {
    return `Execution is ${execution.status} and cannot be redriven`;
  }
  if (execution.events.length >= HISTORY_LIMIT - 1) return 'Execution history event limit exceeded';
  if (now - (execution.stopDate?.getTime() ?? now) > REDRIVABLE_MS) return 'Execution redrivable period exceeded';
  return undefined;
}

function describe(execution: Execution, now: number): Shape {
  const reason = notRedrivable(execution, now);
  return {
    executionArn: execution.arn,
    stateMachineArn: execution.machine.arn,
    name: execution.name,
    status: execution.status,
    startDate: execution.startDate,
    stopDate: execution.stopDate,
    input: execution.input,
    inputDetails: { included: true },
    output: execution.output,
    outputDetails: execution.output === undefined ? undefined : { included: true },
    error: execution.error,
    cause: execution.cause,
    redriveCount: execution.redriveCount,
    redriveDate: execution.redriveDate,
    redriveStatus: reason === undefined ? 'REDRIVABLE' : 'NOT_REDRIVABLE',
    redriveStatusReason: reason,
  };
}

/** One page of at most `maxResults` (default 100, most 1,000); the token names the last item of the page before. */
function page<T>(
  all: readonly T[],
  input: Shape,
  key: (item: T) => string,
): { items: readonly T[]; nextToken: { nextToken?: string } } {
  const size = input.maxResults > 0 ? Math.min(input.maxResults, 1000) : 100;
  const from = input.nextToken === undefined ? 0 : all.findIndex((item) => key(item) === input.nextToken) + 1;
  if (input.nextToken !== undefined && from === 0) throw new AwsError('InvalidToken', "Invalid Token: 'Invalid token'");
  const items = all.slice(from, from + size);
  const last = items.at(-1);
  return { items, nextToken: last !== undefined && from + size < all.length ? { nextToken: key(last) } : {} };
}
