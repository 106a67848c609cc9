import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import {
  AwsError,
  type AwsEvent,
  type Caller,
  Cloud,
  type Happening,
  NotModelled,
  type Operation,
  type ServiceName,
  type Shape,
} from '../../drill/cloud/kernel.ts';
import { StepFunctions } from '../../drill/cloud/states/step-functions.ts';

const ROLE = 'arn:aws:iam::123456789012:role/machine';
const CALLER: Caller = { roleArn: 'arn:aws:iam::123456789012:role/test', session: 'test' };
const INVOKE = 'arn:aws:states:::lambda:invoke';
const CALLBACK = 'arn:aws:states:::lambda:invoke.waitForTaskToken';

/** What a function does: the answer, or an error object with `errorType`. */
type Handler = (payload: Shape, cloud: Cloud) => Promise<unknown> | unknown;

class FunctionError extends Error {
  readonly errorType: string;
  constructor(errorType: string, message: string) {
    super(message);
    this.errorType = errorType;
  }
}

/** A local cloud without latencies, so that virtual time shows what the state machines themselves wait for. */
class World {
  readonly clock = new VirtualClock();
  readonly cloud = new Cloud({ clock: this.clock, seed: 1 });
  readonly states = new StepFunctions(this.cloud);
  readonly functions: Record<string, Handler> = {};
  readonly events: AwsEvent[] = [];
  readonly callers: Caller[] = [];
  #machines = 0;

  constructor() {
    this.cloud.latencyScale = 0;
    this.cloud.register(this.states);
    this.serve('lambda', { Invoke: (input) => this.#invoke(input) });
    this.cloud.onEvent((event) => this.events.push(event));
  }

  serve(name: ServiceName, operations: Record<string, (input: Shape) => Promise<Shape> | Shape>): void {
    const entries = Object.entries(operations).map(([operation, invoke]): [string, Operation] => [
      operation,
      {
        authorize: () => [],
        invoke: (input, caller) => {
          this.callers.push(caller);
          return invoke(input);
        },
      },
    ]);
    this.cloud.register({ name, operations: Object.fromEntries(entries) });
  }

  async #invoke(input: Shape): Promise<Shape> {
    const handler = this.functions[input.FunctionName];
    if (!handler) {
      throw new AwsError('ResourceNotFoundException', `Function not found: ${input.FunctionName}`, 404);
    }
    const answer = (value: unknown, error?: string) => ({
      StatusCode: 200,
      ExecutedVersion: '$LATEST',
      Payload: new TextEncoder().encode(JSON.stringify(value)),
      ...(error ? { FunctionError: error } : {}),
    });
    try {
      return answer((await handler(JSON.parse(new TextDecoder().decode(input.Payload)), this.cloud)) ?? null);
    } catch (error) {
      if (!(error instanceof FunctionError)) throw error;
      return answer({ errorType: error.errorType, errorMessage: error.message }, 'Unhandled');
    }
  }

  deploy(States: Shape, options: Shape = {}): string {
    const { type = 'STANDARD', properties = {}, ...top } = options;
    const definition = { QueryLanguage: 'JSONata', StartAt: Object.keys(States)[0], States, ...top };
    const handler = this.states.handlers['AWS::StepFunctions::StateMachine'];
    const created = handler?.create(
      `Machine${++this.#machines}`,
      { RoleArn: ROLE, StateMachineType: type, DefinitionString: JSON.stringify(definition), ...properties },
      { stackName: 'test', assetPath: undefined, physicalName: (id) => `test-${id}` },
    );
    return (created as { ref: string }).ref;
  }

  call(operation: string, input: Shape): Promise<Shape> {
    return this.cloud.call({ service: 'states', operation, input, caller: CALLER });
  }

  /** An API call in virtual time. */
  ask(operation: string, input: Shape): Promise<Shape> {
    return this.clock.run(this.call(operation, input));
  }

  /** Starts an execution without waiting for it. */
  async start(States: Shape, input: unknown = {}, options: Shape = {}): Promise<string> {
    const stateMachineArn = this.deploy(States, options);
    return (await this.ask('StartExecution', { stateMachineArn, input: JSON.stringify(input) })).executionArn;
  }

  async close(executionArn: string): Promise<Shape> {
    await this.clock.run(this.states.whenClosed(executionArn));
    const described = await this.ask('DescribeExecution', { executionArn });
    return { ...described, output: described.output === undefined ? undefined : JSON.parse(described.output) };
  }

  /** Runs a machine to its end, and describes the execution. */
  async run(States: Shape, input: unknown = {}, options: Shape = {}): Promise<Shape> {
    return this.close(await this.start(States, input, options));
  }

  happened(kind: string): Happening[] {
    return this.cloud.happenings.filter((happening) => happening.kind === kind);
  }

  async history(executionArn: string): Promise<Shape[]> {
    return (await this.ask('GetExecutionHistory', { executionArn })).events;
  }
}

const pass = (fields: Shape) => ({ Type: 'Pass', ...fields });
const invoke = (FunctionName: string, fields: Shape = {}) => ({
  Type: 'Task',
  Resource: INVOKE,
  Arguments: { FunctionName, Payload: '{% $states.input %}' },
  ...(fields.Next ? {} : { End: true }),
  ...fields,
});
const callback = (fields: Shape = {}) => ({
  Type: 'Task',
  Resource: CALLBACK,
  Arguments: { FunctionName: 'keep', Payload: { token: '{% $states.context.Task.Token %}' } },
  ...(fields.Next ? {} : { End: true }),
  ...fields,
});

/** A world whose function `keep` keeps the tokens that it is given. */
function withTokens(): { world: World; tokens: string[] } {
  const world = new World();
  const tokens: string[] = [];
  world.functions['keep'] = ({ token }) => {
    tokens.push(token);
  };
  return { world, tokens };
}

async function errorOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: Error) => error.name,
  );
}

describe('states', () => {
  it('passes its input on, and computes an output from it', async () => {
    const { status, output } = await new World().run(
      {
        First: pass({ Next: 'Second' }),
        Second: pass({ Output: { sum: '{% $states.input.a + $states.input.b %}', text: 'as it is' }, End: true }),
      },
      { a: 1, b: 2 },
    );
    expect([status, output]).toEqual(['SUCCEEDED', { sum: 3, text: 'as it is' }]);
  });

  it('takes the first Choice rule that holds, and the Default otherwise', async () => {
    const States = {
      Decide: {
        Type: 'Choice',
        Choices: [
          { Condition: '{% $states.input.n > 10 %}', Next: 'Large', Assign: { size: 'large' } },
          { Condition: '{% $states.input.n > 5 %}', Next: 'Medium', Output: 'replaced' },
        ],
        Default: 'Small',
        Assign: { size: 'small' },
      },
      Large: pass({ Output: '{% $size %}', End: true }),
      Medium: pass({ End: true }),
      Small: pass({ Output: '{% $size %}', End: true }),
    };
    const world = new World();
    expect((await world.run(States, { n: 11 })).output).toBe('large');
    expect((await world.run(States, { n: 6 })).output).toBe('replaced');
    expect((await world.run(States, { n: 1 })).output).toBe('small');
  });

  it('fails a Choice without a rule that holds and without a Default', async () => {
    const { error } = await new World().run({
      Decide: { Type: 'Choice', Choices: [{ Condition: '{% false %}', Next: 'End' }] },
      End: { Type: 'Succeed' },
    });
    expect(error).toBe('States.NoChoiceMatched');
  });

  it('waits for seconds and until a timestamp, also as expressions', async () => {
    const world = new World();
    const before = world.clock.now();
    const { startDate, stopDate } = await world.run(
      {
        A: { Type: 'Wait', Seconds: 10, Next: 'B' },
        B: { Type: 'Wait', Seconds: '{% $states.input.pause %}', Next: 'C' },
        C: { Type: 'Wait', Timestamp: '{% $states.input.until %}', End: true },
      },
      { pause: 20, until: new Date(before + 100_900).toISOString() },
    );
    expect(stopDate - startDate).toBe(100_000); // the fraction of the timestamp's second is dropped
  });

  it('ends with Succeed and with Fail, whose name and cause can be expressions', async () => {
    const world = new World();
    expect((await world.run({ Done: { Type: 'Succeed', Output: 7 } })).output).toBe(7);
    const failed = await world.run(
      { Bad: { Type: 'Fail', Error: "{% 'E' & $states.input.code %}", Cause: 'because' } },
      { code: 1 },
    );
    expect([failed.status, failed.error, failed.cause]).toEqual(['FAILED', 'E1', 'because']);
  });

  it('gives every branch of Parallel the same input and gathers their outputs in order', async () => {
    const { output } = await new World().run(
      {
        Both: {
          Type: 'Parallel',
          Arguments: { n: '{% $states.input.n * 10 %}' },
          Branches: [
            {
              StartAt: 'Slow',
              States: {
                Slow: { Type: 'Wait', Seconds: 5, Next: 'SlowEnd' },
                SlowEnd: pass({ Output: '{% $states.input.n %}', End: true }),
              },
            },
            { StartAt: 'Fast', States: { Fast: pass({ Output: '{% $states.input.n + 1 %}', End: true }) } },
          ],
          Output: '{% $sum($states.result) %}',
          End: true,
        },
      },
      { n: 2 },
    );
    expect(output).toBe(41);
  });

  it('maps over items, with the item in the context, no more than MaxConcurrency at a time', async () => {
    const { output, startDate, stopDate } = await new World().run(
      {
        Each: {
          Type: 'Map',
          Items: '{% $states.input.names %}',
          ItemSelector: { name: '{% $states.context.Map.Item.Value %}', i: '{% $states.context.Map.Item.Index %}' },
          MaxConcurrency: 2,
          ItemProcessor: {
            ProcessorConfig: { Mode: 'INLINE' },
            StartAt: 'Pause',
            States: {
              Pause: { Type: 'Wait', Seconds: 10, Next: 'Name' },
              Name: pass({ Output: '{% $states.input.name & $string($states.input.i) %}', End: true }),
            },
          },
          End: true,
        },
      },
      { names: ['a', 'b', 'c'] },
    );
    expect(output).toEqual(['a0', 'b1', 'c2']);
    expect(stopDate - startDate).toBe(20_000);
  });

  it('tells a state about itself, its execution and its machine', async () => {
    const world = new World();
    const stateMachineArn = world.deploy({ Look: pass({ Output: '{% $states.context %}', End: true }) });
    const { executionArn } = await world.ask('StartExecution', { stateMachineArn, name: 'one', input: '{"a":1}' });
    const { output } = await world.close(executionArn);
    expect(output).toEqual({
      Execution: {
        Id: executionArn,
        Input: { a: 1 },
        Name: 'one',
        RoleArn: ROLE,
        StartTime: '2026-01-05T12:00:00Z',
        RedriveCount: 0,
      },
      State: { EnteredTime: '2026-01-05T12:00:00Z', Name: 'Look', RetryCount: 0 },
      StateMachine: { Id: stateMachineArn, Name: 'test-Machine1' },
    });
  });
});

describe('variables', () => {
  it('become visible in the next state, all computed from the old values', async () => {
    const { output } = await new World().run({
      Set: pass({ Assign: { x: 3, a: 6 }, Next: 'Swap' }),
      Swap: pass({ Assign: { x: '{% $a %}', a: '{% $x %}' }, Output: '{% $x %}', Next: 'Look' }),
      Look: pass({ Output: '{% [$states.input, $x, $a] %}', End: true }),
    });
    expect(output).toEqual([3, 6, 3]);
  });

  it('of outer scopes can be read in a branch, whose own ones end with it', async () => {
    const { error, cause } = await new World().run({
      Set: pass({ Assign: { outer: 1 }, Next: 'Branch' }),
      Branch: {
        Type: 'Parallel',
        Branches: [
          {
            StartAt: 'Inner',
            States: {
              Inner: pass({ Assign: { inner: '{% $outer + 1 %}' }, Next: 'InnerLook' }),
              InnerLook: pass({ Output: '{% $inner %}', End: true }),
            },
          },
        ],
        Assign: { seen: '{% $states.result[0] %}' },
        Next: 'Outside',
      },
      Outside: pass({ Output: { seen: '{% $seen %}', inner: '{% $inner %}' }, End: true }),
    });
    expect(error).toBe('States.QueryEvaluationError');
    expect(cause).toContain("'$inner' specified for the field 'Output/inner' returned nothing (undefined).");
  });

  it('must not bear the name of one in an outer scope', () => {
    const branch = { StartAt: 'In', States: { In: pass({ Assign: { x: 1 }, End: true }) } };
    const States = { Out: { Type: 'Parallel', Branches: [branch], Assign: { x: 2 }, End: true } };
    expect(() => new World().deploy(States)).toThrow(/'x' is assigned in an outer scope/);
  });
});

describe('expressions', () => {
  it('have the functions that Step Functions adds, on the cloud’s clock and randomness', async () => {
    const expressions = {
      partition: '{% $partition([1,2,3,4,5], 2) %}',
      range: '{% $range(0, 10, 5) %}',
      hash: "{% $hash('a', 'SHA-256') %}",
      parse: `{% $parse('{"a":[1]}').a[0] %}`,
      same: '{% $random(7) = $random(7) %}',
      random: '{% $random() %}',
      uuid: '{% $uuid() %}',
      now: '{% $now() %}',
      year: "{% $now('[Y0001]') %}",
      millis: '{% $millis() %}',
    };
    const first = await new World().run({ Compute: pass({ Output: expressions, End: true }) });
    const second = await new World().run({ Compute: pass({ Output: expressions, End: true }) });
    expect(first.output).toMatchObject({
      partition: [[1, 2], [3, 4], [5]],
      range: [0, 5, 10],
      hash: 'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb',
      parse: 1,
      same: true,
      now: '2026-01-05T12:00:00.000Z',
      year: '2026',
      millis: Date.parse('2026-01-05T12:00:00Z'),
    });
    expect(first.output.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(second.output).toEqual(first.output);
  });

  it('fail where AWS’s would: errors, a wrong type, $eval', async () => {
    const world = new World();
    const failing = ["{% 'a' + 1 %}", "{% $eval('1') %}", '{% $sum %}'];
    for (const Output of failing) {
      expect((await world.run({ Bad: pass({ Output, End: true }) })).error).toBe('States.QueryEvaluationError');
    }
    const { error } = await world.run({ Bad: { Type: 'Wait', Seconds: "{% '5' %}", End: true } });
    expect(error).toBe('States.QueryEvaluationError');
  });
});

describe('Retry and Catch', () => {
  /** The seconds between the calls of a function that fails a number of times. */
  async function delays(Retry: Shape[], failures: string[]): Promise<{ result: Shape; seconds: number[] }> {
    const world = new World();
    const calls: number[] = [];
    world.functions['work'] = () => {
      calls.push(world.clock.now());
      const failure = failures[calls.length - 1];
      if (failure !== undefined) throw new FunctionError(failure, 'not yet');
      return 'done';
    };
    const result = await world.run({
      Work: invoke('work', { Retry, Output: '{% [$states.result.Payload, $states.context.State.RetryCount] %}' }),
    });
    return { result, seconds: calls.slice(1).map((at, index) => (at - (calls[index] ?? 0)) / 1000) };
  }

  it('backs off exponentially up to MaxDelaySeconds', async () => {
    const retry = { ErrorEquals: ['Busy'], IntervalSeconds: 3, MaxAttempts: 5, BackoffRate: 2, MaxDelaySeconds: 10 };
    const { result, seconds } = await delays([retry], ['Busy', 'Busy', 'Busy', 'Busy']);
    expect(seconds).toEqual([3, 6, 10, 10]);
    expect(result.output).toEqual(['done', 4]);
  });

  it('counts attempts for each retrier, and fails when they are used up', async () => {
    const { result, seconds } = await delays(
      [
        { ErrorEquals: ['A', 'B'], IntervalSeconds: 1, MaxAttempts: 2 },
        { ErrorEquals: ['C'], IntervalSeconds: 5 },
      ],
      ['A', 'B', 'C', 'B'],
    );
    expect(seconds).toEqual([1, 2, 5]);
    expect([result.status, result.error]).toEqual(['FAILED', 'B']);
  });

  it('spreads retries with full jitter', async () => {
    const retry = { ErrorEquals: ['States.ALL'], IntervalSeconds: 100, BackoffRate: 1, JitterStrategy: 'FULL' };
    const { seconds } = await delays([retry], ['A', 'A', 'A']);
    expect(seconds.every((delay) => delay > 0 && delay < 100)).toBe(true);
    expect(new Set(seconds).size).toBe(3);
  });

  it('hands the error output to the catcher’s Output, Assign and next state', async () => {
    const world = new World();
    world.functions['work'] = () => {
      throw new FunctionError('CapacityError', 'none left');
    };
    const { output } = await world.run(
      {
        Work: invoke('work', {
          Catch: [
            { ErrorEquals: ['Other'], Next: 'Lost' },
            {
              ErrorEquals: ['States.TaskFailed'],
              Next: 'Handle',
              Assign: { reason: '{% $parse($states.errorOutput.Cause).errorMessage %}' },
              Output: { error: '{% $states.errorOutput.Error %}', input: '{% $states.input %}' },
            },
          ],
        }),
        Lost: { Type: 'Fail', Error: 'Lost' },
        Handle: pass({ Output: { caught: '{% $states.input %}', reason: '{% $reason %}' }, End: true }),
      },
      { n: 1 },
    );
    expect(output).toEqual({ caught: { error: 'CapacityError', input: { n: 1 } }, reason: 'none left' });
    expect(world.happened('state-failed').map(({ detail }) => detail)).toMatchObject([
      { state: 'Work', error: 'CapacityError', handling: 'caught' },
    ]);
  });

  it('catches an undefined expression of a Task, and retries it', async () => {
    const world = new World();
    let calls = 0;
    world.functions['work'] = () => (++calls < 2 ? {} : { value: 5 });
    const States = {
      Work: invoke('work', {
        Output: '{% $states.result.Payload.value %}',
        Retry: [{ ErrorEquals: ['States.QueryEvaluationError'], MaxAttempts: 1 }],
      }),
    };
    expect((await world.run(States)).output).toBe(5);
  });

  it('matches the wildcards as documented', async () => {
    const world = new World();
    world.functions['hang'] = () => new Promise(() => {});
    world.functions['flood'] = () => 'x'.repeat(262_144);
    const caughtBy = async (name: string, ErrorEquals: string[], fields: Shape = {}) =>
      (
        await world.run({
          Work: invoke(name, { ...fields, Catch: [{ ErrorEquals, Next: 'Caught', Output: 'caught' }] }),
          Caught: pass({ End: true }),
        })
      ).status;
    const timeout = { TimeoutSeconds: 1 };
    expect(await caughtBy('hang', ['States.Timeout'], timeout)).toBe('SUCCEEDED');
    expect(await caughtBy('hang', ['States.ALL'], timeout)).toBe('SUCCEEDED');
    expect(await caughtBy('hang', ['States.TaskFailed'], timeout)).toBe('FAILED');
    expect(await caughtBy('flood', ['States.ALL'])).toBe('FAILED');
    expect(await caughtBy('flood', ['States.TaskFailed'])).toBe('FAILED');
    expect(await caughtBy('flood', ['States.DataLimitExceeded'])).toBe('SUCCEEDED');
    expect(await caughtBy('none', ['States.Runtime'], { Arguments: {} })).toBe('FAILED');
  });
});

describe('timeouts and task tokens', () => {
  it('times a task out after TimeoutSeconds, which can be an expression', async () => {
    const world = new World();
    world.functions['hang'] = () => new Promise(() => {});
    const { status, error, startDate, stopDate } = await world.run(
      { Work: invoke('hang', { TimeoutSeconds: '{% $states.input.limit %}' }) },
      { limit: 30 },
    );
    expect([status, error, stopDate - startDate]).toEqual(['FAILED', 'States.Timeout', 30_000]);
  });

  it('times the machine out', async () => {
    const { status, error, startDate, stopDate } = await new World().run(
      { Long: { Type: 'Wait', Seconds: 100, End: true } },
      {},
      { TimeoutSeconds: 60 },
    );
    expect([status, error, stopDate - startDate]).toEqual(['TIMED_OUT', 'States.Timeout', 60_000]);
  });

  it('leaves a machine alone that has ended before its timeout', async () => {
    const world = new World();
    const executionArn = await world.start({ Done: { Type: 'Succeed' } }, {}, { TimeoutSeconds: 60 });
    await world.clock.pass(120_000);
    expect((await world.close(executionArn)).status).toBe('SUCCEEDED');
  });

  it('waits for the token, and gives its output to the state', async () => {
    const { world, tokens } = withTokens();
    const arn = await world.start({ Armed: callback() });
    await world.clock.pass(50_000);
    await world.ask('SendTaskSuccess', { taskToken: tokens[0], output: '{"host":"i-1"}' });
    const { output, startDate, stopDate } = await world.close(arn);
    expect([output, stopDate - startDate]).toEqual([{ host: 'i-1' }, 50_000]);
    const types = (await world.history(arn)).map(({ type }) => type);
    expect(types).toEqual([
      'ExecutionStarted',
      'TaskStateEntered',
      'TaskScheduled',
      'TaskStarted',
      'TaskSubmitted',
      'TaskSucceeded',
      'TaskStateExited',
      'ExecutionSucceeded',
    ]);
  });

  it('accepts a token that comes back before the function has returned', async () => {
    const world = new World();
    world.functions['keep'] = async ({ token }) => {
      await world.call('SendTaskSuccess', { taskToken: token, output: '"early"' });
      await world.clock.sleep(60_000);
    };
    const { output, startDate, stopDate } = await world.run({ Armed: callback() });
    expect([output, stopDate - startDate]).toEqual(['early', 0]);
  });

  it('fails with the error that the token’s holder sends', async () => {
    const { world, tokens } = withTokens();
    const arn = await world.start({ Armed: callback() });
    await world.clock.pass(1000);
    await world.ask('SendTaskFailure', { taskToken: tokens[0], error: 'NotArmed', cause: 'no disk' });
    expect(await world.close(arn)).toMatchObject({ status: 'FAILED', error: 'NotArmed', cause: 'no disk' });
  });

  it('refuses a token after the timeout, and gives a retry a new one', async () => {
    const { world, tokens } = withTokens();
    const Retry = [{ ErrorEquals: ['States.Timeout'], MaxAttempts: 1, IntervalSeconds: 1 }];
    const arn = await world.start({ Armed: callback({ TimeoutSeconds: 10, Retry }) });
    await world.clock.pass(15_000);
    expect(tokens.length).toBe(2);
    const send = (taskToken: unknown) => errorOf(world.ask('SendTaskSuccess', { taskToken, output: '{}' }));
    expect(await send(tokens[0])).toBe('TaskTimedOut');
    expect(await send(tokens[1])).toBe('none');
    expect(await send(tokens[1])).toBe('TaskTimedOut');
    expect((await world.close(arn)).status).toBe('SUCCEEDED');
  });

  it('tells invalid, unknown and malformed answers apart', async () => {
    const { world, tokens } = withTokens();
    await world.start({ Armed: callback() });
    await world.clock.pass(1000);
    const token = String(tokens[0]);
    const unknown = token.slice(0, -1) + (token.endsWith('A') ? 'B' : 'A');
    const send = (taskToken: string, output: string) => errorOf(world.ask('SendTaskSuccess', { taskToken, output }));
    expect(await send('nonsense', '{}')).toBe('InvalidToken');
    expect(await send(unknown, '{}')).toBe('TaskDoesNotExist');
    expect(await send(token, '{')).toBe('InvalidOutput');
  });

  it('misses heartbeats only after the function has returned, and heartbeats keep the task alive', async () => {
    const world = new World();
    const tokens: string[] = [];
    world.functions['keep'] = async ({ token }) => {
      tokens.push(token);
      await world.clock.sleep(20_000);
    };
    const arn = await world.start({
      Armed: callback({
        HeartbeatSeconds: 10,
        Catch: [{ ErrorEquals: ['States.HeartbeatTimeout'], Next: 'Silent' }],
      }),
      Silent: pass({ End: true }),
    });
    await world.clock.pass(28_000);
    await world.ask('SendTaskHeartbeat', { taskToken: tokens[0] });
    const { output, startDate, stopDate } = await world.close(arn);
    expect(output).toEqual({ Error: 'States.Timeout' });
    expect(stopDate - startDate).toBe(38_000);
    expect(await errorOf(world.ask('SendTaskHeartbeat', { taskToken: tokens[0] }))).toBe('TaskTimedOut');
  });
});

describe('Parallel failures', () => {
  const branches = (second: Shape) => ({
    Type: 'Parallel',
    Branches: [
      { StartAt: 'Armed', States: { Armed: callback() } },
      { StartAt: 'Pause', States: { Pause: { Type: 'Wait', Seconds: 5, Next: 'Second' }, Second: second } },
    ],
  });

  it('stop the other branches, whose tokens are void, with the failed branch’s error', async () => {
    const { world, tokens } = withTokens();
    const arn = await world.start({
      Both: {
        ...branches({ Type: 'Fail', Error: 'Broken', Cause: 'second' }),
        Catch: [{ ErrorEquals: ['States.ALL'], Next: 'Handle' }],
        End: true,
      },
      Handle: pass({ End: true }),
    });
    const { output, startDate, stopDate } = await world.close(arn);
    expect([output, stopDate - startDate]).toEqual([{ Error: 'Broken', Cause: 'second' }, 5000]);
    expect(await errorOf(world.ask('SendTaskSuccess', { taskToken: tokens[0], output: '{}' }))).toBe('TaskTimedOut');
    const types = (await world.history(arn)).map(({ type }) => type);
    expect(types).toContain('TaskStateAborted');
    expect(types.indexOf('ParallelStateFailed')).toBeGreaterThan(types.indexOf('TaskStateAborted'));
  });

  it('are retried with all branches', async () => {
    const world = new World();
    let calls = 0;
    world.functions['work'] = () => {
      calls++;
      if (calls === 2) throw new FunctionError('Down', '');
      return calls;
    };
    const { output } = await world.run({
      Both: {
        Type: 'Parallel',
        Branches: ['A', 'B'].map((name) => ({
          StartAt: name,
          States: { [name]: invoke('work', { Output: '{% $states.result.Payload %}' }) },
        })),
        Retry: [{ ErrorEquals: ['Down'] }],
        End: true,
      },
    });
    expect(output).toEqual([3, 4]);
  });

  it('are redriven from the branches that had not succeeded', async () => {
    const world = new World();
    const calls: Record<string, number> = {};
    for (const name of ['good', 'bad']) {
      world.functions[name] = () => {
        calls[name] = (calls[name] ?? 0) + 1;
        if (name === 'bad' && calls[name] === 1) throw new FunctionError('Down', '');
        return name;
      };
    }
    const branch = (state: string, FunctionName: string, delay: number) => ({
      StartAt: `${state}Wait`,
      States: {
        [`${state}Wait`]: { Type: 'Wait', Seconds: delay, Next: state },
        [state]: invoke(FunctionName, { Output: '{% $states.result.Payload %}' }),
      },
    });
    const arn = await world.start({
      Both: { Type: 'Parallel', Branches: [branch('A', 'good', 1), branch('B', 'bad', 2)], End: true },
    });
    expect((await world.close(arn)).error).toBe('Down');
    await world.ask('RedriveExecution', { executionArn: arn });
    const { status, output } = await world.close(arn);
    expect([status, output, calls]).toEqual(['SUCCEEDED', ['good', 'bad'], { good: 1, bad: 2 }]);
  });
});

describe('executions', () => {
  const simple = { Wait: { Type: 'Wait', Seconds: 60, End: true } };

  it('start once for a name and an input, and keep the name for 90 days', async () => {
    const world = new World();
    const stateMachineArn = world.deploy(simple);
    const start = (input: string) => world.ask('StartExecution', { stateMachineArn, name: 'db-i-1', input });
    const first = await start('{"a":1}');
    expect(await start('{"a":1}')).toEqual(first);
    expect(await errorOf(start('{"a":2}'))).toBe('ExecutionAlreadyExists');
    await world.close(first.executionArn);
    expect(await errorOf(start('{"a":1}'))).toBe('ExecutionAlreadyExists');
    await world.clock.run(world.clock.sleep(91 * 86_400_000), 100 * 86_400_000);
    expect(await errorOf(start('{"a":2}'))).toBe('none');
    expect(world.states.executions.length).toBe(1);
  });

  it('refuse bad names, bad input and unknown machines', async () => {
    const world = new World();
    const stateMachineArn = world.deploy(simple);
    const start = (input: Shape) => errorOf(world.ask('StartExecution', { stateMachineArn, ...input }));
    expect(await start({ name: 'a b' })).toBe('InvalidName');
    expect(await start({ name: 'a'.repeat(81) })).toBe('InvalidName');
    expect(await start({ input: '{' })).toBe('InvalidExecutionInput');
    expect(await start({ stateMachineArn: 'arn:aws:states:::nothing' })).toBe('StateMachineDoesNotExist');
    expect(await errorOf(world.ask('DescribeExecution', { executionArn: 'x' }))).toBe('ExecutionDoesNotExist');
  });

  it('can be stopped, which voids their tokens', async () => {
    const { world, tokens } = withTokens();
    const executionArn = await world.start({ Armed: callback() });
    await world.clock.pass(1000);
    await world.ask('StopExecution', { executionArn, error: 'Operator', cause: 'enough' });
    expect(await world.close(executionArn)).toMatchObject({ status: 'ABORTED', error: 'Operator', cause: 'enough' });
    expect(await errorOf(world.ask('SendTaskSuccess', { taskToken: tokens[0], output: '{}' }))).toBe('TaskTimedOut');
  });

  it('are redriven from the state that failed, with their variables and fresh retries', async () => {
    const world = new World();
    let broken = true;
    const seen: unknown[] = [];
    world.functions['first'] = () => 'one';
    world.functions['second'] = (payload) => {
      seen.push(payload);
      if (broken) throw new FunctionError('Down', 'still');
      return 'two';
    };
    const executionArn = await world.start({
      First: invoke('first', { Assign: { kept: '{% $states.result.Payload %}' }, Output: 5, Next: 'Second' }),
      Second: invoke('second', {
        Arguments: {
          FunctionName: 'second',
          Payload: {
            kept: '{% $kept %}',
            redrives: '{% $states.context.Execution.RedriveCount %}',
            retries: '{% $states.context.State.RetryCount %}',
          },
        },
        Retry: [{ ErrorEquals: ['Down'], MaxAttempts: 1 }],
        Output: '{% $states.result.Payload %}',
      }),
    });
    await world.close(executionArn);
    expect(seen.length).toBe(2);
    broken = false;
    const clientToken = 'same';
    await world.ask('RedriveExecution', { executionArn, clientToken });
    const described = await world.close(executionArn);
    expect(described).toMatchObject({ status: 'SUCCEEDED', output: 'two', redriveCount: 1, error: undefined });
    expect(seen[2]).toEqual({ kept: 'one', redrives: 1, retries: 0 });
    expect(world.cloud.callCounts['lambda:Invoke']).toBe(4);
    expect(await errorOf(world.ask('RedriveExecution', { executionArn, clientToken }))).toBe('none');
    expect(await errorOf(world.ask('RedriveExecution', { executionArn }))).toBe('ExecutionNotRedrivable');
    const types = (await world.history(executionArn)).map(({ type }) => type);
    expect(types.slice(types.indexOf('ExecutionRedriven'), types.indexOf('ExecutionRedriven') + 2)).toEqual([
      'ExecutionRedriven',
      'TaskScheduled',
    ]);
  });

  it('are redriven after being stopped while they waited', async () => {
    const world = new World();
    const executionArn = await world.start(simple);
    await world.clock.pass(30_000);
    await world.ask('StopExecution', { executionArn });
    await world.ask('RedriveExecution', { executionArn });
    const { status, redriveDate, stopDate } = await world.close(executionArn);
    expect([status, stopDate - redriveDate]).toEqual(['SUCCEEDED', 60_000]);
  });

  it('are listed newest first, by status and page', async () => {
    const world = new World();
    const stateMachineArn = world.deploy(simple);
    for (const name of ['a', 'b', 'c']) await world.ask('StartExecution', { stateMachineArn, name });
    const list = async (input: Shape) => {
      const answer = await world.ask('ListExecutions', { stateMachineArn, ...input });
      return { names: answer.executions.map(({ name }: Shape) => name), nextToken: answer.nextToken };
    };
    const first = await list({ maxResults: 2 });
    expect(first.names).toEqual(['c', 'b']);
    expect((await list({ maxResults: 2, nextToken: first.nextToken })).names).toEqual(['a']);
    expect((await list({ statusFilter: 'RUNNING' })).names).toEqual(['c', 'b', 'a']);
    expect((await list({ statusFilter: 'SUCCEEDED' })).names).toEqual([]);
  });

  it('emit their status changes as EventBridge delivers them', async () => {
    const world = new World();
    await world.run({ Bad: { Type: 'Fail', Error: 'E', Cause: 'C' } });
    expect(world.events.map(({ detail }) => [detail['status'], detail['redriveStatus'], detail['error']])).toEqual([
      ['RUNNING', 'NOT_REDRIVABLE', null],
      ['FAILED', 'REDRIVABLE', 'E'],
    ]);
    expect(world.events[0]).toMatchObject({
      source: 'aws.states',
      'detail-type': 'Step Functions Execution Status Change',
      time: '2026-01-05T12:00:00Z',
    });
  });

  it('take time for each transition: Express far less than Standard', async () => {
    const States = { A: pass({ Next: 'B' }), B: pass({ End: true }) };
    const took = async (type: string) => {
      const world = new World();
      const stateMachineArn = world.deploy(States, { type });
      world.cloud.latencyScale = 1;
      await world.ask('StartExecution', { stateMachineArn });
      const [execution] = world.states.executions;
      await world.clock.run(world.states.whenClosed(execution?.arn ?? ''));
      return Number(execution?.stopDate) - Number(execution?.startDate);
    };
    expect(await took('EXPRESS')).toBeLessThan((await took('STANDARD')) / 2);
  });

  it('end when their history is full', async () => {
    const world = new World();
    const { status, error } = await world.run({
      Again: pass({ Next: 'AndAgain' }),
      AndAgain: { Type: 'Choice', Choices: [{ Condition: true, Next: 'Again' }], Default: 'Never' },
      Never: { Type: 'Succeed' },
    });
    expect([status, error]).toEqual(['FAILED', 'States.Runtime']);
    expect(world.states.executions[0]?.events.length).toBe(25_000);
  });

  it('run synchronously when they are Express', async () => {
    const world = new World();
    world.functions['work'] = async () => {
      await world.clock.sleep(2000);
      return 1;
    };
    const stateMachineArn = world.deploy(
      { Work: invoke('work', { Output: '{% $states.result.Payload %}' }) },
      { type: 'EXPRESS' },
    );
    const answer = await world.ask('StartSyncExecution', { stateMachineArn, input: '{}' });
    expect(answer).toMatchObject({ status: 'SUCCEEDED', output: '1' });
    expect(answer.stopDate - answer.startDate).toBe(2000);
    world.functions['work'] = () => {
      throw new FunctionError('Bad', 'x');
    };
    expect(await world.ask('StartSyncExecution', { stateMachineArn })).toMatchObject({
      status: 'FAILED',
      error: 'Bad',
    });
    world.functions['work'] = () => new Promise(() => {});
    expect(await world.ask('StartSyncExecution', { stateMachineArn })).toMatchObject({ status: 'TIMED_OUT' });
    expect(await errorOf(world.ask('DescribeExecution', { executionArn: answer.executionArn }))).toBe('InvalidArn');
    const standard = world.deploy(simple);
    expect(await errorOf(world.ask('StartSyncExecution', { stateMachineArn: standard }))).toBe(
      'StateMachineTypeNotSupported',
    );
    expect(world.events).toEqual([]);
  });
});

describe('permissions', () => {
  it('asks IAM about the machine, the execution, or nothing in particular', async () => {
    const world = new World();
    const asked: string[] = [];
    world.cloud.authorizer = {
      deny: (_caller, { action, resource, context }) => {
        asked.push(`${action} ${resource} ${context?.['aws:ResourceTag/keeper:database'] ?? '-'}`);
        return undefined;
      },
    };
    const Tags = [{ Key: 'keeper:database', Value: 'lighthouse' }];
    const stateMachineArn = world.deploy({ Done: { Type: 'Succeed' } }, { properties: { Tags } });
    const { executionArn } = await world.ask('StartExecution', { stateMachineArn });
    await world.ask('DescribeExecution', { executionArn });
    await errorOf(world.ask('SendTaskHeartbeat', { taskToken: 'x' }));
    expect(asked).toEqual([
      `states:StartExecution ${stateMachineArn} lighthouse`,
      `states:DescribeExecution ${executionArn} -`,
      'states:SendTaskHeartbeat * -',
    ]);
  });
});

describe('integrations', () => {
  it('give the Lambda result as the optimized integration does, called as the machine’s role', async () => {
    const world = new World();
    world.functions['echo'] = (payload) => ({ got: payload });
    const { output } = await world.run({ Call: invoke('echo') }, { n: 1 });
    expect(output).toMatchObject({ Payload: { got: { n: 1 } }, StatusCode: 200, ExecutedVersion: '$LATEST' });
    expect(world.callers[0]?.roleArn).toBe(ROLE);
  });

  it('name the errors of the Lambda service as AWS does', async () => {
    const world = new World();
    expect(await world.run({ Call: invoke('nobody') })).toMatchObject({
      error: 'Lambda.ResourceNotFoundException',
      cause: expect.stringContaining('Service: AWSLambda; Status Code: 404; Error Code: ResourceNotFoundException'),
    });
    for (const [code, expected] of [
      ['TooManyRequestsException', 'Lambda.TooManyRequestsException'],
      ['ServiceException', 'Lambda.ServiceException'],
      ['AccessDeniedException', 'Lambda.AWSLambdaException'],
    ] as const) {
      world.cloud.faults = {
        onCall: ({ service }) => (service === 'lambda' ? { error: new AwsError(code, 'no') } : undefined),
      };
      expect((await world.run({ Call: invoke('nobody') })).error).toBe(expected);
    }
  });

  it('call APIs of the SDK with JSON in and out', async () => {
    const world = new World();
    world.serve('ec2', {
      DescribeVolumes: (input) => ({
        $metadata: {},
        Volumes: input.VolumeIds.map((VolumeId: string) => ({
          VolumeId,
          CreateTime: new Date('2026-01-01T00:00:00Z'),
          Encrypted: undefined,
        })),
      }),
    });
    const { output } = await world.run({
      Look: {
        Type: 'Task',
        Resource: 'arn:aws:states:::aws-sdk:ec2:describeVolumes',
        Arguments: { VolumeIds: ['vol-1'] },
        End: true,
      },
    });
    expect(output).toEqual({ Volumes: [{ VolumeId: 'vol-1', CreateTime: '2026-01-01T00:00:00Z' }] });
  });

  it('name the errors of the SDK as its Java version does, without the code in the cause', async () => {
    const world = new World();
    const failing = (code: string) => () => {
      throw new AwsError(code, 'message');
    };
    world.serve('ec2', { AttachVolume: failing('VolumeInUse') });
    world.serve('ssm', {
      GetParameter: failing('ParameterNotFound'),
      SendCommand: failing('InvalidInstanceId'),
      PutParameter: failing('ThrottlingException'),
    });
    const error = async (api: string) => {
      const Resource = `arn:aws:states:::aws-sdk:${api}`;
      const { error, cause } = await world.run({ Call: { Type: 'Task', Resource, Arguments: {}, End: true } });
      expect(cause).toMatch(/^message \(Service: (Ec2|Ssm), Status Code: 400, Request ID: [0-9a-f-]{36}\)$/);
      return error;
    };
    expect(await error('ec2:attachVolume')).toBe('Ec2.Ec2Exception');
    expect(await error('ssm:getParameter')).toBe('Ssm.ParameterNotFoundException');
    expect(await error('ssm:sendCommand')).toBe('Ssm.InvalidInstanceIdException');
    expect(await error('ssm:putParameter')).toBe('Ssm.ThrottlingException');
  });

  it('start other executions, optimized and through the SDK', async () => {
    const world = new World();
    const child = world.deploy({ Done: { Type: 'Succeed' } });
    const start = (Resource: string, Input: unknown) => ({
      Call: { Type: 'Task', Resource, Arguments: { StateMachineArn: child, Name: 'child', Input }, End: true },
    });
    const { output } = await world.run(start('arn:aws:states:::states:startExecution', { a: 1 }));
    expect(output.ExecutionArn).toContain(':child');
    expect(output.StartDate).toBe('2026-01-05T12:00:00Z');
    expect((await world.close(output.ExecutionArn)).input).toBe('{"a":1}');
    expect((await world.run(start('arn:aws:states:::states:startExecution', {}))).error).toBe(
      'StepFunctions.ExecutionAlreadyExistsException',
    );
    expect((await world.run(start('arn:aws:states:::aws-sdk:sfn:startExecution', '{}'))).error).toBe(
      'Sfn.ExecutionAlreadyExistsException',
    );
  });

  it('publish objects as JSON text', async () => {
    const world = new World();
    const messages: unknown[] = [];
    world.serve('sns', {
      Publish: ({ Message }) => {
        messages.push(Message);
        return { MessageId: 'm-1' };
      },
    });
    const Arguments = { TopicArn: 'arn:aws:sns:us-east-1:123456789012:people', Message: { text: 'moved' } };
    const { output } = await world.run({
      Tell: { Type: 'Task', Resource: 'arn:aws:states:::sns:publish', Arguments, End: true },
    });
    expect([messages, output.MessageId]).toEqual([['{"text":"moved"}'], 'm-1']);
  });
});

describe('strictness', () => {
  const end = { Type: 'Succeed' };
  const refused: [string, Shape, Shape?][] = [
    ['JSONPath', { A: pass({ End: true }) }, { QueryLanguage: 'JSONPath' }],
    ['a JSONPath state', { A: pass({ QueryLanguage: 'JSONPath', End: true }) }],
    ['a field of JSONPath', { A: pass({ ResultPath: '$.a', End: true }) }],
    ['an unknown field of the machine', { A: end }, { Labels: {} }],
    ['an unknown field of a retrier', { A: invoke('f', { Retry: [{ ErrorEquals: ['E'], Extra: 1 }] }) }],
    ['the plain ARN of a function', { A: invoke('f', { Resource: 'arn:aws:lambda:us-east-1:1:function:f' }) }],
    ['.sync', { A: invoke('f', { Resource: 'arn:aws:states:::states:startExecution.sync:2' }) }],
    ['a service that it lacks', { A: invoke('f', { Resource: 'arn:aws:states:::aws-sdk:dynamodb:getItem' }) }],
    ['an operation that it lacks', { A: invoke('f', { Resource: 'arn:aws:states:::aws-sdk:sfn:deleteActivity' }) }],
    ['an argument that it lacks', { A: invoke('f', { Arguments: { FunctionName: 'f', LogType: 'Tail' } }) }],
    ['heartbeats without a token', { A: invoke('f', { HeartbeatSeconds: 5 }) }],
    ['Credentials', { A: invoke('f', { Credentials: { RoleArn: ROLE } }) }],
    ['logging to somewhere unknown', { A: end }, { properties: { LoggingConfiguration: { Colour: 1 } } }],
    ['encryption', { A: end }, { properties: { EncryptionConfiguration: {} } }],
  ];
  it.each(refused)('does not model %s', (_, States, options) => {
    expect(() => new World().deploy(States, options)).toThrow(NotModelled);
  });

  const invalid: [string, Shape, Shape?][] = [
    ['a missing target', { A: pass({ Next: 'B' }) }],
    ['a state that nothing leads to', { A: end, B: end }],
    ['neither Next nor End', { A: pass({}) }],
    ['a syntax error', { A: pass({ Output: '{% 1 + %}', End: true }) }],
    ['an expression that is not closed', { A: pass({ Output: '{% 1', End: true }) }],
    ['$states.result where there is none', { A: pass({ Output: '{% $states.result %}', End: true }) }],
    ['$states.errorOutput outside a Catch', { A: invoke('f', { Output: '{% $states.errorOutput %}' }) }],
    ['States.ALL that is not alone', { A: invoke('f', { Retry: [{ ErrorEquals: ['States.ALL', 'E'] }] }) }],
    ['a heartbeat longer than the timeout', { A: callback({ HeartbeatSeconds: 9, TimeoutSeconds: 5 }) }],
    ['task tokens in Express', { A: callback() }, { type: 'EXPRESS' }],
    ['a path for a variable name', { A: pass({ Assign: { 'a.b': 1 }, End: true }) }],
    ['the same name twice', { A: { Type: 'Parallel', Branches: [{ StartAt: 'A', States: { A: end } }], End: true } }],
  ];
  it.each(invalid)('refuses %s, as AWS does', (_, States, options) => {
    expect(() => new World().deploy(States, options)).toThrow(/^Invalid State Machine Definition/);
  });

  it('lets running executions keep the definition they started with', async () => {
    const world = new World();
    const States = { Wait: { Type: 'Wait', Seconds: 60, Next: 'Done' }, Done: { Type: 'Succeed', Output: 'old' } };
    const stateMachineArn = world.deploy(States);
    const start = async () => (await world.ask('StartExecution', { stateMachineArn })).executionArn;
    const first = await start();
    const Definition = {
      QueryLanguage: 'JSONata',
      StartAt: 'Done',
      States: { Done: { Type: 'Succeed', Output: 'new' } },
    };
    const handler = world.states.handlers['AWS::StepFunctions::StateMachine'];
    const stack = { stackName: 'test', assetPath: undefined, physicalName: (id: string) => `test-${id}` };
    const created = { ref: stateMachineArn, attributes: {} };
    await handler?.update?.(created, { RoleArn: ROLE, Definition }, {}, stack);
    expect((await world.close(await start())).output).toBe('new');
    expect((await world.close(first)).output).toBe('old');
    await handler?.delete(created);
    expect(await errorOf(start())).toBe('StateMachineDoesNotExist');
  });

  it('puts substitutions into the definition', async () => {
    const world = new World();
    // biome-ignore lint/suspicious/noTemplateCurlyInString: CloudFormation's placeholder
    const Output = '${What}';
    const DefinitionString = JSON.stringify({
      QueryLanguage: 'JSONata',
      StartAt: 'A',
      States: { A: { Type: 'Succeed', Output } },
    });
    const properties = { DefinitionString, DefinitionSubstitutions: { What: 'put in' } };
    expect((await world.run({}, {}, { properties })).output).toBe('put in');
  });

  it('ends the run when a task asks for what the local cloud does not model', async () => {
    const world = new World();
    world.serve('ssm', {
      GetParameter: () => {
        throw new NotModelled('labels');
      },
    });
    const arn = await world.start({
      Read: { Type: 'Task', Resource: 'arn:aws:states:::aws-sdk:ssm:getParameter', Arguments: {}, End: true },
    });
    await expect(world.clock.run(world.states.whenClosed(arn))).rejects.toThrow(NotModelled);
    expect(world.cloud.failure).toBeInstanceOf(NotModelled);
  });
});
