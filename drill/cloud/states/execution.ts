import type { Caller, Cloud, Shape } from '../kernel.ts';
import type { Random } from '../random.ts';
import { firstOutcome, type OpenTask } from './attempt.ts';
import type {
  Catcher,
  ChoiceState,
  Definition,
  MapState,
  ParallelState,
  Retrier,
  State,
  TaskState,
  WaitState,
} from './definition.ts';
import { type Evaluator, uuid } from './expressions.ts';
import { matches, StateFailure } from './failures.ts';
import { exceedsPayloadLimit, HISTORY_LIMIT, type HistoryEvent } from './history.ts';
import { callIntegration, timestamp } from './integrations.ts';
import { type MapItem, Stopped, Track } from './track.ts';

export type ExecutionStatus = 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'TIMED_OUT' | 'ABORTED';

export interface StateMachine {
  readonly arn: string;
  readonly name: string;
  readonly type: 'STANDARD' | 'EXPRESS';
  readonly tags: Readonly<Record<string, string>>;
  roleArn: string;
  definition: Definition;
}

/** What an execution needs of the service it belongs to. */
export interface ExecutionContext {
  readonly cloud: Cloud;
  readonly random: Random;
  readonly evaluator: Evaluator;
  /** Gives a fresh token to a task; once closed, whoever presents it is told `TaskTimedOut`. */
  openTask(task: OpenTask): { readonly token: string; close(): void };
  statusChanged(execution: Execution): void;
}

/** How a state is left. */
interface Exit {
  readonly output: unknown;
  readonly assigned: Readonly<Record<string, unknown>>;
  /** undefined: the sequence ends here */
  readonly next: string | undefined;
}

/** What `$states` holds beside `input` and `context`. */
interface Outcome {
  readonly result?: unknown;
  readonly errorOutput?: unknown;
}

const DEFAULTS = { IntervalSeconds: 1, MaxAttempts: 3, BackoffRate: 2 } as const;

const ABORTABLE: readonly State['Type'][] = ['Task', 'Wait', 'Parallel', 'Map'];

/** @see dg/state-map-inline.html: "supports up to 40 concurrent iterations" */
const MAP_CONCURRENCY = 40;

/** @see dg/service-quotas.html: the longest an Express execution runs */
const EXPRESS_SECONDS = 300;

/** @see dg/state-wait.html */
const WAIT_LIMIT_SECONDS = 99_999_999;
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/** One execution of a state machine: interprets its definition, and remembers what happened. */
export class Execution {
  readonly arn: string;
  readonly name: string;
  readonly machine: StateMachine;
  readonly input: string;
  readonly startDate: Date;
  readonly events: HistoryEvent[] = [];
  status: ExecutionStatus = 'RUNNING';
  stopDate: Date | undefined;
  output: string | undefined;
  error: string | undefined;
  cause: string | undefined;
  redriveCount = 0;
  redriveDate: Date | undefined;
  /** The definition and role of the moment it started. */
  readonly #definition: Definition;
  readonly #roleArn: string;
  readonly #context: ExecutionContext;
  readonly #parsedInput: unknown;
  readonly #root: Track;
  #stop = new AbortController();
  #run: Promise<void> = Promise.resolve();

  constructor(context: ExecutionContext, machine: StateMachine, name: string, arn: string, input: string) {
    this.#context = context;
    this.machine = machine;
    this.name = name;
    this.arn = arn;
    this.input = input;
    this.startDate = new Date(context.cloud.clock.now());
    this.#definition = machine.definition;
    this.#roleArn = machine.roleArn;
    this.#parsedInput = JSON.parse(input);
    this.#root = new Track(this.#definition, this.#parsedInput);
  }

  /** Settles when the current run has ended; rejects when the local cloud itself failed. */
  get settled(): Promise<void> {
    return this.#run;
  }

  start(): void {
    this.#event(undefined, 'ExecutionStarted', {
      executionStartedEventDetails: { input: this.input, inputDetails: { truncated: false }, roleArn: this.#roleArn },
    });
    this.#happened('started');
    this.#begin();
  }

  /** Ends a running execution, as StopExecution does. */
  abort(error: string | undefined, cause: string | undefined): void {
    this.#close('ABORTED', 'ExecutionAborted', 'executionAbortedEventDetails', error, cause);
    this.#stop.abort(new Stopped(false));
  }

  /** Continues from the states that did not succeed. */
  async redrive(): Promise<void> {
    await this.#run;
    this.redriveCount++;
    this.redriveDate = new Date(this.#context.cloud.clock.now());
    this.status = 'RUNNING';
    this.stopDate = undefined;
    this.error = undefined;
    this.cause = undefined;
    this.#stop = new AbortController();
    this.#root.lastEventId = this.events.length;
    this.#event(this.#root, 'ExecutionRedriven', {
      executionRedrivenEventDetails: { redriveCount: this.redriveCount },
    });
    this.#happened('redriven');
    this.#begin();
  }

  #begin(): void {
    this.#context.statusChanged(this);
    this.#run = this.#interpret();
    // Whoever waits for it sees the error; the cloud remembers it in any case.
    this.#run.catch(() => {});
  }

  async #interpret(): Promise<void> {
    const { clock } = this.#context.cloud;
    const { signal } = this.#stop;
    const limit = Math.min(this.#definition.TimeoutSeconds ?? Infinity, this.#isExpress ? EXPRESS_SECONDS : Infinity);
    const timeout = Number.isFinite(limit) ? clock.after(limit * 1000, () => this.#timeOut()) : undefined;
    try {
      const output = await this.#follow(this.#root, signal);
      if (!signal.aborted) this.#succeed(JSON.stringify(output));
    } catch (error) {
      if (error instanceof Stopped) return; // whoever stopped it has closed it
      if (!(error instanceof StateFailure)) throw this.#context.cloud.fail(error as Error);
      if (!signal.aborted) {
        this.#close('FAILED', 'ExecutionFailed', 'executionFailedEventDetails', error.error, error.cause);
      }
    } finally {
      timeout?.cancel();
    }
  }

  get #isExpress(): boolean {
    return this.machine.type === 'EXPRESS';
  }

  #timeOut(): void {
    this.#close('TIMED_OUT', 'ExecutionTimedOut', 'executionTimedOutEventDetails', 'States.Timeout', undefined);
    this.#stop.abort(new Stopped(false));
  }

  #succeed(output: string): void {
    this.#event(this.#root, 'ExecutionSucceeded', {
      executionSucceededEventDetails: { output, outputDetails: { truncated: false } },
    });
    this.output = output;
    this.#end('SUCCEEDED');
  }

  #close(
    status: ExecutionStatus,
    type: string,
    details: string,
    error: string | undefined,
    cause: string | undefined,
  ): void {
    this.#append(this.#root, type, { [details]: present({ error, cause }) });
    this.error = error;
    this.cause = cause;
    this.#end(status);
  }

  #end(status: ExecutionStatus): void {
    this.status = status;
    this.stopDate = new Date(this.#context.cloud.clock.now());
    this.#happened(status === 'TIMED_OUT' ? 'timed-out' : status.toLowerCase());
    this.#context.statusChanged(this);
  }

  async #follow(track: Track, signal: AbortSignal): Promise<unknown> {
    while (!track.output) {
      const exit = await this.#visit(track, signal);
      track.visit = undefined;
      track.branches = undefined;
      if (exit.next === undefined) {
        track.output = { value: exit.output };
      } else {
        track.state = exit.next;
        track.input = exit.output;
      }
    }
    return track.output.value;
  }

  async #visit(track: Track, signal: AbortSignal): Promise<Exit> {
    const state = track.flow.States[track.state] as State;
    if (track.visit && state.Type !== 'Fail') {
      track.visit.retries = 0; // a redrive grants all attempts again
      this.#record('state-entered', track);
    } else {
      await this.#pause(this.#transitionMs(), signal);
      this.#enter(track, state);
    }
    try {
      const exit = await this.#perform(track, state, signal);
      if (signal.aborted) throw signal.reason;
      this.#leave(track, state, exit);
      return exit;
    } catch (error) {
      if (error instanceof Stopped && error.byBranch && ABORTABLE.includes(state.Type)) {
        this.#event(track, `${state.Type}StateAborted`, {});
      }
      if (error instanceof StateFailure) {
        if (error.error === 'States.DataLimitExceeded') track.branches = undefined; // a redrive starts all of them
        this.#failed(track, error, { handling: 'none' });
      }
      throw error;
    }
  }

  #transitionMs(): number {
    return this.#context.cloud.latency(this.#isExpress ? 'states.expressTransition' : 'states.transition', this.name);
  }

  #enter(track: Track, state: State): void {
    const eventId = this.#event(track, `${state.Type}StateEntered`, {
      stateEnteredEventDetails: {
        name: track.state,
        input: JSON.stringify(track.input),
        inputDetails: { truncated: false },
      },
    });
    track.visit = { eventId, enteredTime: timestamp(this.#context.cloud.clock.now()), retries: 0 };
    this.#record('state-entered', track);
  }

  #leave(track: Track, state: State, exit: Exit): void {
    const names = Object.keys(exit.assigned);
    Object.assign(track.own, exit.assigned);
    this.#event(track, `${state.Type}StateExited`, {
      stateExitedEventDetails: {
        name: track.state,
        output: JSON.stringify(exit.output),
        outputDetails: { truncated: false },
        ...(names.length === 0
          ? {}
          : {
              assignedVariables: Object.fromEntries(names.map((name) => [name, JSON.stringify(exit.assigned[name])])),
              assignedVariablesDetails: { truncated: false },
            }),
      },
    });
    this.#record('state-exited', track, { next: exit.next });
  }

  async #perform(track: Track, state: State, signal: AbortSignal): Promise<Exit> {
    switch (state.Type) {
      case 'Task':
      case 'Parallel':
      case 'Map':
        return this.#attempts(track, state, signal);
      case 'Choice':
        return this.#choose(track, state);
      case 'Wait':
        await this.#wait(track, state, signal);
        return this.#exit(track, state, state.Next, track.input);
      case 'Pass':
        return this.#exit(track, state, state.Next, track.input);
      case 'Succeed':
        return this.#exit(track, state, undefined, track.input);
      case 'Fail':
        throw new StateFailure(
          await this.#text(track, state.Error, 'Error'),
          await this.#text(track, state.Cause, 'Cause'),
        );
    }
  }

  /** Task, Parallel and Map: tried until they succeed, their retriers are used up, or a catcher takes over. */
  async #attempts(track: Track, state: TaskState | ParallelState | MapState, signal: AbortSignal): Promise<Exit> {
    const used = new Map<Retrier, number>();
    for (;;) {
      try {
        const result = await this.#result(track, state, signal);
        return await this.#exit(track, state, state.Next, result, { result });
      } catch (error) {
        if (!(error instanceof StateFailure)) throw error;
        const delayMs = this.#retryDelayMs(state.Retry ?? [], error, used);
        if (delayMs === undefined) return this.#caught(track, state.Catch ?? [], error);
        this.#failed(track, error, { handling: 'retried', delayMs });
        await this.#pause(delayMs, signal);
        track.branches = undefined;
        if (track.visit) track.visit.retries++;
      }
    }
  }

  #retryDelayMs(retriers: readonly Retrier[], failure: StateFailure, used: Map<Retrier, number>): number | undefined {
    const retrier = retriers.find(({ ErrorEquals }) => matches(ErrorEquals, failure));
    if (!retrier) return undefined;
    const { IntervalSeconds, MaxAttempts, BackoffRate, MaxDelaySeconds, JitterStrategy } = { ...DEFAULTS, ...retrier };
    const attempts = used.get(retrier) ?? 0;
    if (attempts >= MaxAttempts) return undefined;
    used.set(retrier, attempts + 1);
    const seconds = Math.min(IntervalSeconds * BackoffRate ** attempts, MaxDelaySeconds ?? Infinity);
    return seconds * 1000 * (JitterStrategy === 'FULL' ? this.#context.random.next() : 1);
  }

  async #caught(track: Track, catchers: readonly Catcher[], failure: StateFailure): Promise<Exit> {
    const index = catchers.findIndex(({ ErrorEquals }) => matches(ErrorEquals, failure));
    const catcher = catchers[index];
    if (!catcher) throw failure;
    this.#failed(track, failure, { handling: 'caught' });
    const errorOutput = failure.output;
    return this.#exit(track, catcher, catcher.Next, errorOutput, { errorOutput }, `Catch[${index}]/`);
  }

  #result(track: Track, state: TaskState | ParallelState | MapState, signal: AbortSignal): Promise<unknown> {
    switch (state.Type) {
      case 'Task':
        return this.#task(track, state, signal);
      case 'Parallel':
        return this.#parallel(track, state, signal);
      case 'Map':
        return this.#map(track, state, signal);
    }
  }

  /** What leaves the state; all of it is computed with the variables as they were on entry. */
  async #exit(
    track: Track,
    leaving: { readonly Output?: unknown; readonly Assign?: unknown },
    next: string | undefined,
    otherwise: unknown,
    outcome: Outcome = {},
    at = '',
  ): Promise<Exit> {
    const output =
      leaving.Output === undefined
        ? otherwise
        : await this.#evaluate(track, leaving.Output, `${at}Output`, this.#names(track, outcome));
    const assigned =
      leaving.Assign === undefined
        ? {}
        : await this.#evaluate(track, leaving.Assign, `${at}Assign`, this.#names(track, outcome));
    this.#checkSize(track, output);
    this.#checkSize(track, assigned);
    return { output, assigned: assigned as Exit['assigned'], next };
  }

  async #choose(track: Track, state: ChoiceState): Promise<Exit> {
    for (const [index, rule] of state.Choices.entries()) {
      const at = `Choices[${index}]/`;
      const holds = await this.#evaluate(track, rule.Condition, `${at}Condition`);
      if (typeof holds !== 'boolean') throw this.#wrongType(track, `${at}Condition`, 'a boolean');
      if (holds) return this.#exit(track, rule, rule.Next, track.input, {}, at);
    }
    if (state.Default === undefined) {
      throw new StateFailure('States.NoChoiceMatched', this.#during(track, 'No choice rule matched and no Default'));
    }
    return this.#exit(track, state, state.Default, track.input);
  }

  async #wait(track: Track, state: WaitState, signal: AbortSignal): Promise<void> {
    if (state.Seconds !== undefined) {
      const seconds = await this.#integer(track, state.Seconds, 'Seconds', 0, WAIT_LIMIT_SECONDS);
      return this.#pause(seconds * 1000, signal);
    }
    const until = await this.#evaluate(track, state.Timestamp, 'Timestamp');
    if (typeof until !== 'string' || !TIMESTAMP.test(until)) throw this.#wrongType(track, 'Timestamp', 'a timestamp');
    const seconds = Math.floor(Date.parse(until) / 1000); // Step Functions drops the fraction
    return this.#pause(seconds * 1000 - this.#context.cloud.clock.now(), signal);
  }

  async #task(track: Track, state: TaskState, signal: AbortSignal): Promise<unknown> {
    const { integration } = state;
    const { resourceType, resource } = integration;
    let task: OpenTask | undefined;
    const open = integration.waitForTaskToken
      ? this.#context.openTask({
          succeed: (output) => task?.succeed(output),
          fail: (error, cause) => task?.fail(error, cause),
          heartbeat: () => task?.heartbeat(),
        })
      : undefined;
    try {
      const names = this.#names(track, {}, open ? { Task: { Token: open.token } } : {});
      const input = await this.#evaluate(track, state.Arguments ?? {}, 'Arguments', names);
      this.#checkSize(track, input);
      const timeoutSeconds = await this.#seconds(track, state.TimeoutSeconds, 'TimeoutSeconds');
      const heartbeatSeconds = await this.#seconds(track, state.HeartbeatSeconds, 'HeartbeatSeconds');
      this.#event(track, 'TaskScheduled', {
        taskScheduledEventDetails: {
          resourceType,
          resource,
          region: this.#context.cloud.region,
          parameters: JSON.stringify(input),
          ...present({ timeoutInSeconds: timeoutSeconds, heartbeatInSeconds: heartbeatSeconds }),
        },
      });
      this.#event(track, 'TaskStarted', { taskStartedEventDetails: { resourceType, resource } });
      const output = await firstOutcome(this.#context.cloud.clock, signal, {
        call: () => callIntegration(this.#context.cloud, integration, input, this.#caller, uuid(this.#context.random)),
        waitForTaskToken: integration.waitForTaskToken,
        timeoutSeconds,
        heartbeatSeconds,
        opened: (opened) => {
          task = opened;
        },
        submitted: (answer) =>
          this.#event(track, 'TaskSubmitted', {
            taskSubmittedEventDetails: { resourceType, resource, output: JSON.stringify(answer) },
          }),
      });
      this.#checkSize(track, output);
      this.#event(track, 'TaskSucceeded', {
        taskSucceededEventDetails: {
          resourceType,
          resource,
          output: JSON.stringify(output),
          outputDetails: { truncated: false },
        },
      });
      return output;
    } catch (error) {
      if (error instanceof StateFailure) this.#taskFailed(track, resourceType, resource, error);
      throw error;
    } finally {
      open?.close();
    }
  }

  #taskFailed(track: Track, resourceType: string, resource: string, failure: StateFailure): void {
    const details = { resourceType, resource, ...present({ error: failure.error, cause: failure.cause }) };
    switch (failure.error) {
      case 'States.QueryEvaluationError':
        return;
      case 'States.Timeout':
        this.#event(track, 'TaskTimedOut', { taskTimedOutEventDetails: details });
        return;
      default:
        this.#event(track, 'TaskFailed', { taskFailedEventDetails: details });
    }
  }

  get #caller(): Caller {
    return { roleArn: this.#roleArn, session: this.name };
  }

  async #parallel(track: Track, state: ParallelState, signal: AbortSignal): Promise<unknown[]> {
    if (!track.branches) {
      const input =
        state.Arguments === undefined ? track.input : await this.#evaluate(track, state.Arguments, 'Arguments');
      this.#checkSize(track, input);
      this.#event(track, 'ParallelStateStarted', {});
      track.branches = state.Branches.map((branch) => new Track(branch, input, track));
    }
    return this.#branches(track, track.branches, 'Parallel', Infinity, signal);
  }

  async #map(track: Track, state: MapState, signal: AbortSignal): Promise<unknown[]> {
    const limit =
      state.MaxConcurrency === undefined
        ? 0
        : await this.#integer(track, state.MaxConcurrency, 'MaxConcurrency', 0, Number.MAX_SAFE_INTEGER);
    if (!track.branches) {
      const items = state.Items === undefined ? track.input : await this.#evaluate(track, state.Items, 'Items');
      if (!Array.isArray(items)) throw this.#wrongType(track, 'Items', 'an array');
      const branches: Track[] = [];
      for (const [index, value] of items.entries()) {
        const item: MapItem = { Index: index, Value: value, Source: 'STATE_DATA' };
        const names = this.#names(track, {}, { Map: { Item: item } });
        const input =
          state.ItemSelector === undefined
            ? value
            : await this.#evaluate(track, state.ItemSelector, 'ItemSelector', names);
        this.#checkSize(track, input);
        branches.push(new Track(state.ItemProcessor, input, track, item));
      }
      this.#event(track, 'MapStateStarted', { mapStateStartedEventDetails: { length: items.length } });
      for (const branch of branches) branch.lastEventId = track.lastEventId;
      track.branches = branches;
    }
    return this.#branches(track, track.branches, 'Map', limit === 0 ? MAP_CONCURRENCY : limit, signal);
  }

  /** Runs what is not done yet of the branches, at most `limit` at a time; the first failure stops the others. */
  async #branches(
    track: Track,
    branches: readonly Track[],
    type: 'Parallel' | 'Map',
    limit: number,
    signal: AbortSignal,
  ): Promise<unknown[]> {
    const inner = new AbortController();
    const relay = () => inner.abort(signal.reason);
    if (signal.aborted) relay();
    signal.addEventListener('abort', relay);
    const waiting = branches.filter((branch) => !branch.output);
    let failure: unknown;
    const worker = async () => {
      for (let branch = waiting.shift(); branch && !inner.signal.aborted; branch = waiting.shift()) {
        try {
          await this.#branch(track, branch, type, inner.signal);
        } catch (error) {
          failure ??= error;
          inner.abort(new Stopped(true));
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(limit, waiting.length) }, worker));
    signal.removeEventListener('abort', relay);
    if (signal.aborted) throw signal.reason;
    track.lastEventId = this.events.length;
    if (failure !== undefined) {
      if (failure instanceof StateFailure) this.#event(track, `${type}StateFailed`, {});
      throw failure;
    }
    this.#event(track, `${type}StateSucceeded`, {});
    return branches.map((branch) => branch.output?.value);
  }

  async #branch(track: Track, branch: Track, type: 'Parallel' | 'Map', signal: AbortSignal): Promise<void> {
    if (type === 'Parallel') {
      await this.#follow(branch, signal);
      return;
    }
    const details = { name: track.state, index: branch.item?.Index };
    this.#event(branch, 'MapIterationStarted', { mapIterationStartedEventDetails: details });
    try {
      await this.#follow(branch, signal);
    } catch (error) {
      if (error instanceof StateFailure) {
        this.#event(branch, 'MapIterationFailed', { mapIterationFailedEventDetails: details });
      } else if (error instanceof Stopped) {
        this.#event(branch, 'MapIterationAborted', { mapIterationAbortedEventDetails: details });
      }
      throw error;
    }
    this.#event(branch, 'MapIterationSucceeded', { mapIterationSucceededEventDetails: details });
  }

  /** What the names in an expression mean. @see dg/transforming-data.html, "Reserved variable: $states" */
  #names(track: Track, outcome: Outcome = {}, context: Shape = {}): Record<string, unknown> {
    const item = track.mapItem;
    return {
      ...track.variables,
      states: {
        input: track.input,
        ...outcome,
        context: {
          Execution: {
            Id: this.arn,
            Input: this.#parsedInput,
            Name: this.name,
            RoleArn: this.#roleArn,
            StartTime: timestamp(this.startDate.getTime()),
            RedriveCount: this.redriveCount,
            ...(this.redriveDate ? { RedriveTime: timestamp(this.redriveDate.getTime()) } : {}),
          },
          State: {
            EnteredTime: track.visit?.enteredTime,
            Name: track.state,
            RetryCount: track.visit?.retries,
          },
          StateMachine: { Id: this.machine.arn, Name: this.machine.name },
          ...(item ? { Map: { Item: item } } : {}),
          ...context,
        },
      },
    };
  }

  async #evaluate(track: Track, value: unknown, field: string, names = this.#names(track)): Promise<unknown> {
    try {
      return await this.#context.evaluator.evaluate(value, field, names);
    } catch (error) {
      if (!(error instanceof StateFailure)) throw error;
      const cause = this.#during(track, error.cause ?? '');
      this.#event(track, 'EvaluationFailed', {
        evaluationFailedEventDetails: { error: error.error, cause, location: field, state: track.state },
      });
      throw new StateFailure(error.error, cause);
    }
  }

  async #text(track: Track, value: unknown, field: string): Promise<string | undefined> {
    if (value === undefined) return undefined;
    const text = await this.#evaluate(track, value, field);
    if (typeof text !== 'string') throw this.#wrongType(track, field, 'a string');
    return text;
  }

  async #integer(track: Track, value: unknown, field: string, least: number, most: number): Promise<number> {
    const number = await this.#evaluate(track, value, field);
    if (!Number.isInteger(number) || (number as number) < least || (number as number) > most) {
      throw this.#wrongType(track, field, `an integer from ${least} to ${most}`);
    }
    return number as number;
  }

  async #seconds(track: Track, value: unknown, field: string): Promise<number | undefined> {
    return value === undefined ? undefined : this.#integer(track, value, field, 1, WAIT_LIMIT_SECONDS);
  }

  #wrongType(track: Track, field: string, expected: string): StateFailure {
    const cause = this.#during(track, `The field '${field}' must be ${expected}.`);
    return new StateFailure('States.QueryEvaluationError', cause);
  }

  #during(track: Track, problem: string): string {
    return `An error occurred while executing the state '${track.state}' (entered at the event id #${track.visit?.eventId}). ${problem}`;
  }

  #checkSize(track: Track, value: unknown): void {
    if (!exceedsPayloadLimit(value)) return;
    throw new StateFailure(
      'States.DataLimitExceeded',
      `The state/task '${track.state}' returned a result with a size exceeding the maximum number of bytes service limit.`,
    );
  }

  /** Sleeps on the cloud's clock; a stop ends it at once. */
  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const stop = () => {
        timer.cancel();
        reject(signal.reason);
      };
      const timer = this.#context.cloud.clock.after(ms, () => {
        signal.removeEventListener('abort', stop);
        resolve();
      });
      signal.addEventListener('abort', stop);
    });
  }

  /** Adds to the history of a running execution, and returns the event's id. */
  #event(track: Track | undefined, type: string, details: Shape): number {
    if (this.status !== 'RUNNING') return this.events.length;
    // Express executions have no history, hence no limit; the last event of a Standard one says why it ended.
    if (!this.#isExpress && this.events.length >= HISTORY_LIMIT - 1) {
      throw new StateFailure(
        'States.Runtime',
        `The execution reached the maximum number of history events (${HISTORY_LIMIT}).`,
      );
    }
    return this.#append(track, type, details);
  }

  #append(track: Track | undefined, type: string, details: Shape): number {
    const id = this.events.length + 1;
    const previousEventId = track?.lastEventId ?? 0;
    this.events.push({
      id,
      previousEventId,
      timestamp: new Date(this.#context.cloud.clock.now()),
      type,
      ...details,
    });
    if (track) track.lastEventId = id;
    return id;
  }

  #happened(what: string): void {
    this.#context.cloud.record('execution', this.name, {
      status: what,
      stateMachine: this.machine.name,
      executionArn: this.arn,
      ...present({ output: this.output, error: this.error, cause: this.cause }),
    });
  }

  #failed(track: Track, { error, cause }: StateFailure, handling: Shape): void {
    this.#record('state-failed', track, { ...present({ error, cause }), ...handling });
  }

  #record(kind: string, track: Track, detail: Shape = {}): void {
    this.#context.cloud.record(kind, this.name, {
      state: track.state,
      stateMachine: this.machine.name,
      executionArn: this.arn,
      ...detail,
    });
  }
}

function present<T extends object>(members: T): Partial<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Partial<T>;
}
