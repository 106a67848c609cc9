import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import {
  AwsError,
  Cloud,
  type Faults,
  NotModelled,
  type Operation,
  type ServiceName,
  type Shape,
} from '../../drill/cloud/kernel.ts';
import { invokeFunction, LambdaService } from '../../drill/cloud/lambda.ts';
import { Endpoint } from '../../drill/cloud/wire/endpoint.ts';

const ROLE = 'arn:aws:iam::123456789012:role/stack-MoveRole';
const PERSON = { roleArn: 'arn:aws:iam::123456789012:role/person', session: 'person' };

/** What Keeper's functions are made of, bundled as its stack bundles them. */
const WITH_SDK = `
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { Logger } from '@aws-lambda-powertools/logger';
import { AttachVolumeCommand, DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { SFNClient, StartExecutionCommand, StartSyncExecutionCommand } from '@aws-sdk/client-sfn';
import { SendCommandCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { setTimeout as sleep } from 'node:timers/promises';

const logger = new Logger({ serviceName: 'keeper' });
const ec2 = new EC2Client({});
const ssm = new SSMClient({});
const sfn = new SFNClient({});

export const everything = middy(async (event) => {
  logger.info('moving', { volume: event.volume });
  const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: ['i-1'] }));
  const attached = await ec2.send(new AttachVolumeCommand({ VolumeId: event.volume, InstanceId: 'i-1', Device: '/dev/sdf' }));
  const { Command } = await ssm.send(new SendCommandCommand({ DocumentName: 'keeper-release', InstanceIds: ['i-1'] }));
  const started = await sfn.send(new StartExecutionCommand({ stateMachineArn: 'relocate', input: '{}' }));
  const checked = await sfn.send(new StartSyncExecutionCommand({ stateMachineArn: 'check', input: '{}' }));
  return {
    launched: Reservations[0].Instances[0].LaunchTime,
    state: attached.State,
    attempts: attached.$metadata.attempts,
    command: Command.CommandId,
    execution: started.executionArn,
    status: checked.status,
  };
}).use(injectLambdaContext(logger));

export const attach = async () => {
  try {
    return (await ec2.send(new AttachVolumeCommand({ VolumeId: 'vol-1', InstanceId: 'i-1', Device: '/dev/sdf' }))).State;
  } catch (error) {
    return [error.name, error instanceof Error, error.$metadata.httpStatusCode];
  }
};

export const poll = async () => {
  for (;;) {
    await ec2.send(new DescribeInstancesCommand({ InstanceIds: ['i-1'] }));
    await sleep(500);
  }
};

export const impatient = async () => {
  const abortSignal = AbortSignal.timeout(100);
  const call = ec2.send(new DescribeInstancesCommand({ InstanceIds: ['i-1'] }), { abortSignal });
  return call.then(() => 'answered', (error) => error.name);
};
`;

const PLAIN = `
const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
let invocations = 0;
let firedAt;
exports.count = async (event) => { invocations++; await sleep(event.ms ?? 0); return invocations; };
exports.describe = async (event, context) => ({
  event,
  env: process.env,
  remaining: [context.getRemainingTimeInMillis(), await sleep(1500, context.getRemainingTimeInMillis())],
  later: context.getRemainingTimeInMillis(),
  context,
});
exports.clocks = async () => {
  const before = [Date.now(), new Date().getTime(), performance.now(), process.hrtime.bigint()];
  await new Promise((resolve) => setTimeout(resolve, 90_000));
  const after = [Date.now(), new Date().getTime(), performance.now(), process.hrtime.bigint()];
  return before.map((value, i) => Number(after[i] - value) / (i === 3 ? 1e6 : 1));
};
exports.dice = async () => [Math.random(), randomUUID(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(4))]];
exports.leaveTimer = async () => { const seen = firedAt; setTimeout(() => { firedAt = Date.now(); }, 1000); return seen === Date.now(); };
exports.ticks = async () => {
  let ticks = 0;
  const interval = setInterval(() => { ticks++; }, 100);
  await sleep(1050);
  clearInterval(interval);
  clearTimeout(setTimeout(() => { ticks = -1; }, 10));
  await new Promise((resolve) => setImmediate(resolve));
  await sleep(1000);
  return ticks;
};
exports.fail = async () => { throw new TypeError('volume is not defined'); };
exports.failOddly = async () => { throw 'no Error'; };
exports.uncaught = async () => { setTimeout(() => { throw new RangeError('in a timer'); }, 10); await sleep(1000); };
exports.exit = async () => { process.exit(1); };
exports.log = async () => { console.log('one %d', 1); console.error(new Error('two').message); };
exports.nothing = async () => {};
exports.callback = (event, context, callback) => callback(null, 1);
exports.fetch = async () => fetch('https://example.com').catch(() => 'swallowed');
exports.socket = async () => { try { require('node:net'); } catch { return 'swallowed'; } };
exports.file = async () => require('node:fs').readFileSync('/etc/passwd', 'utf8');
`;

let assets: string;

beforeAll(() => {
  assets = mkdtempSync(join(tmpdir(), 'lambda-'));
  buildSync({
    stdin: { contents: WITH_SDK, resolveDir: import.meta.dirname },
    outfile: join(assets, 'sdk', 'index.js'),
    bundle: true,
    platform: 'node',
    target: 'node24',
    minify: true,
    mainFields: ['module', 'main'],
    format: 'cjs',
  });
  for (const [name, source] of Object.entries({ plain: PLAIN, broken: 'nonsense();' })) {
    mkdirSync(join(assets, name));
    writeFileSync(join(assets, name, 'index.js'), source);
  }
});

afterAll(() => rmSync(assets, { recursive: true }));

interface World {
  readonly clock: VirtualClock;
  readonly cloud: Cloud;
  readonly lambda: LambdaService;
  readonly asked: { operation: string; input: Shape; roleArn: string; session: string }[];
  deploy(asset: string, handler: string, properties?: Shape): Promise<string>;
  /** Invokes and waits, in virtual time. */
  invoke(name: string, payload?: unknown): ReturnType<typeof invokeFunction>;
  /** Queues an event and lets time pass. */
  send(name: string, payload: unknown, passMs: number): Promise<void>;
}

function createWorld({
  seed = 1,
  faults = {} as Faults,
  answers = {} as Record<string, (input: Shape) => Shape>,
} = {}): World {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed, faults });
  const asked: World['asked'] = [];
  const now = () => new Date(clock.now());
  const all: Record<string, (input: Shape) => Shape> = {
    'ec2:DescribeInstances': () => ({
      Reservations: [{ Instances: [{ InstanceId: 'i-1', LaunchTime: new Date(0) }] }],
    }),
    'ec2:AttachVolume': () => ({ State: 'attaching' }),
    'ssm:SendCommand': () => ({ Command: { CommandId: 'c-1' } }),
    'states:StartExecution': () => ({ executionArn: 'e-1', startDate: now() }),
    'states:StartSyncExecution': () => ({
      executionArn: 'e-2',
      startDate: now(),
      stopDate: now(),
      status: 'SUCCEEDED',
    }),
    'sqs:SendMessage': () => ({ MessageId: 'm-1' }),
    'sns:Publish': () => ({ MessageId: 'm-2' }),
    ...answers,
  };
  const services = new Map<ServiceName, Record<string, Operation>>();
  for (const [name, answer] of Object.entries(all)) {
    const [service = '', operation = ''] = name.split(':');
    const operations = services.get(service as ServiceName) ?? {};
    const invoke: Operation['invoke'] = (input, { roleArn, session }) => {
      asked.push({ operation: name, input, roleArn, session });
      return answer(input);
    };
    operations[operation] = { authorize: () => [], invoke };
    services.set(service as ServiceName, operations);
  }
  for (const [name, operations] of services) cloud.register({ name, operations });
  const lambda = new LambdaService(cloud, { endpoint: new Endpoint(cloud), assume: async () => {} });
  return {
    clock,
    cloud,
    lambda,
    asked,
    deploy: (asset, handler, properties) => deploy(lambda, asset, handler, properties),
    invoke: (name, payload = {}) => clock.run(invokeFunction(cloud, name, payload, PERSON)),
    async send(name, payload, passMs) {
      const input = { FunctionName: name, InvocationType: 'Event', Payload: Buffer.from(JSON.stringify(payload)) };
      await clock.run(cloud.call({ service: 'lambda', operation: 'Invoke', input, caller: PERSON }));
      await clock.pass(passMs);
    },
  };
}

const context = (asset: string) => ({
  stackName: 'stack',
  physicalName: (logicalId: string) => `stack-${logicalId}`,
  assetPath: join(assets, asset),
});

function handlerOf(lambda: LambdaService, type: string) {
  const handler = lambda.handlers[`AWS::Lambda::${type}`];
  if (!handler) throw new Error(`no handler for ${type}`);
  return handler;
}

async function deploy(lambda: LambdaService, asset: string, handler: string, properties: Shape = {}): Promise<string> {
  const all = {
    Code: { S3Bucket: 'assets', S3Key: 'asset.zip' },
    Handler: `index.${handler}`,
    Role: ROLE,
    Runtime: 'nodejs24.x',
    Architectures: ['arm64'],
    MemorySize: 256,
    Timeout: 300,
    ...properties,
  };
  return (await handlerOf(lambda, 'Function').create('Move', all, context(asset))).ref;
}

const lambdaEvents = ({ cloud }: World, event: string) =>
  cloud.happenings.filter(({ kind, detail }) => kind === 'lambda' && detail['event'] === event);
const logLines = ({ cloud }: World) =>
  cloud.happenings.filter(({ kind }) => kind === 'log').map(({ detail }) => detail['line']);
const askedFor = ({ asked }: World, name: string) => asked.filter(({ operation }) => operation === name);

describe('a bundle with middy, Powertools and SDK clients', () => {
  it('reaches the local cloud in virtual time, with the role of the function', async () => {
    const world = createWorld();
    const name = await world.deploy('sdk', 'everything');
    expect(await world.invoke(name, { volume: 'vol-1' })).toEqual({
      ok: true,
      payload: {
        launched: '1970-01-01T00:00:00.000Z',
        state: 'attaching',
        attempts: 1,
        command: 'c-1',
        execution: 'e-1',
        status: 'SUCCEEDED',
      },
    });
    expect(new Set(world.asked.map(({ roleArn, session }) => `${roleArn} ${session}`))).toEqual(
      new Set([`${ROLE} ${name}`]),
    );
    expect(JSON.parse(String(logLines(world)[0]))).toMatchObject({
      message: 'moving',
      volume: 'vol-1',
      cold_start: true,
    });
    expect(world.cloud.failure).toBeUndefined();
  });

  it('retries throttled requests with waits of virtual time', async () => {
    let refusals = 2;
    const answers = {
      'ec2:AttachVolume': () => {
        if (refusals-- > 0) throw new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503);
        return { State: 'attaching' };
      },
    };
    const world = createWorld({ answers });
    expect(await world.invoke(await world.deploy('sdk', 'attach'))).toEqual({ ok: true, payload: 'attaching' });
    expect(askedFor(world, 'ec2:AttachVolume')).toHaveLength(3);
  });

  it('catches AWS errors by name', async () => {
    const answers = {
      'ec2:AttachVolume': () => {
        throw new AwsError('VolumeInUse', 'vol-1 is already attached');
      },
    };
    const world = createWorld({ answers });
    expect(await world.invoke(await world.deploy('sdk', 'attach'))).toEqual({
      ok: true,
      payload: ['VolumeInUse', true, 400],
    });
  });

  it('can abort a request', async () => {
    const faults: Faults = {
      onCall: ({ operation }) => (operation === 'DescribeInstances' ? { delayMs: 60_000 } : undefined),
    };
    const world = createWorld({ faults });
    expect(await world.invoke(await world.deploy('sdk', 'impatient'))).toEqual({ ok: true, payload: 'AbortError' });
  });

  it('runs the same way again from the same seed', async () => {
    const run = async () => {
      const world = createWorld({ seed: 7 });
      await world.invoke(await world.deploy('sdk', 'everything'), { volume: 'vol-1' });
      return JSON.stringify(world.cloud.happenings);
    };
    expect(await run()).toBe(await run());
  });
});

describe('the sandbox', () => {
  it('has all its time from the clock', async () => {
    const world = createWorld();
    const { payload } = (await world.invoke(await world.deploy('plain', 'clocks'))) as { payload: number[] };
    for (const elapsed of payload) expect(Math.abs(elapsed - 90_000)).toBeLessThan(1);
    const ticks = await createWorld();
    expect(await ticks.invoke(await ticks.deploy('plain', 'ticks'))).toEqual({ ok: true, payload: 10 });
  });

  it('has all its chance from the seed', async () => {
    const throwDice = async (seed: number) => {
      const world = createWorld({ seed });
      return world.invoke(await world.deploy('plain', 'dice'));
    };
    expect(await throwDice(1)).toEqual(await throwDice(1));
    expect(await throwDice(1)).not.toEqual(await throwDice(2));
  });

  it('sees the environment and the context that Lambda gives', async () => {
    const world = createWorld();
    const properties = {
      Environment: { Variables: { DATABASE: 'lighthouse' } },
      Timeout: 30,
      LoggingConfig: { LogGroup: 'keeper' },
    };
    const { payload } = (await world.invoke(await world.deploy('plain', 'describe', properties), { a: [1] })) as Shape;
    expect(payload.event).toEqual({ a: [1] });
    expect(payload.env).toMatchObject({
      DATABASE: 'lighthouse',
      AWS_REGION: 'us-east-1',
      AWS_LAMBDA_FUNCTION_NAME: 'stack-Move',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
      AWS_LAMBDA_LOG_GROUP_NAME: 'keeper',
      _HANDLER: 'index.describe',
    });
    expect(payload.env).not.toHaveProperty('HOME');
    expect(payload.remaining).toEqual([30_000, 30_000]);
    expect(Math.round(payload.later)).toBe(28_500);
    expect(payload.context).toMatchObject({
      functionName: 'stack-Move',
      invokedFunctionArn: 'arn:aws:lambda:us-east-1:123456789012:function:stack-Move',
      memoryLimitInMB: '256',
    });
    expect(payload.context.awsRequestId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('writes its logs to the ledger', async () => {
    const world = createWorld();
    await world.invoke(await world.deploy('plain', 'log'));
    expect(logLines(world)).toEqual(['one 1', 'two']);
  });

  it.each(['fetch', 'socket', 'file'])(
    'voids the run when a function uses what is not modelled: %s',
    async (handler) => {
      const world = createWorld();
      await expect(world.invoke(await world.deploy('plain', handler))).rejects.toThrow(NotModelled);
      expect(world.cloud.failure).toBeInstanceOf(NotModelled);
    },
  );
});

describe('execution environments', () => {
  it('start cold, and are warm afterwards', async () => {
    const world = createWorld();
    const name = await world.deploy('plain', 'count');
    expect(await world.invoke(name)).toEqual({ ok: true, payload: 1 });
    expect(await world.invoke(name)).toEqual({ ok: true, payload: 2 });
    const started = lambdaEvents(world, 'started');
    expect(started.map(({ detail }) => detail['coldStart'])).toEqual([true, false]);
    const durations = lambdaEvents(world, 'succeeded').map(({ detail }) => Number(detail['durationMs']));
    expect(durations[0]).toBeGreaterThan(100);
    expect(durations[1]).toBeLessThan(10);
  });

  it('serve one invocation at a time', async () => {
    const world = createWorld();
    const name = await world.deploy('plain', 'count');
    const both = [1, 2].map(() => invokeFunction(world.cloud, name, { ms: 1000 }, PERSON));
    expect(await world.clock.run(Promise.all(both))).toEqual([1, 2].map(() => ({ ok: true, payload: 1 })));
    expect(await world.invoke(name)).toEqual({ ok: true, payload: 2 });
  });

  it('are frozen between invocations', async () => {
    const world = createWorld();
    const name = await world.deploy('plain', 'leaveTimer');
    expect(await world.invoke(name)).toEqual({ ok: true, payload: false });
    await world.clock.pass(60_000);
    // The timer of the first invocation has fired only now.
    expect(await world.invoke(name)).toEqual({ ok: true, payload: true });
  });

  it('end at the timeout, and nothing that they do afterwards has any effect', async () => {
    const world = createWorld();
    const name = await world.deploy('sdk', 'poll', { Timeout: 10 });
    const result = await world.invoke(name);
    expect(result).toMatchObject({ ok: false, errorType: 'Sandbox.Timedout' });
    expect(result).toMatchObject({
      errorMessage: expect.stringMatching(/^RequestId: [0-9a-f-]{36} Error: Task timed out after 10\.00 seconds$/),
    });
    const calls = world.cloud.callCounts['ec2:DescribeInstances'];
    expect(calls).toBeGreaterThan(10);
    await world.clock.pass(60_000);
    expect(world.cloud.callCounts['ec2:DescribeInstances']).toBe(calls);
    await world.invoke(name);
    expect(lambdaEvents(world, 'started').map(({ detail }) => detail['coldStart'])).toEqual([true, true]);
  });

  it.each([
    ['before', 0],
    ['after', 1],
  ] as const)('can be killed %s a request takes effect', async (kill, effects) => {
    const faults: Faults = { onCall: ({ operation }) => (operation === 'AttachVolume' ? { kill } : undefined) };
    const world = createWorld({ faults });
    expect(await world.invoke(await world.deploy('sdk', 'everything'), { volume: 'vol-1' })).toMatchObject({
      ok: false,
      errorType: 'Runtime.ExitError',
      errorMessage: expect.stringMatching(/Error: Runtime exited with error: signal: killed$/),
    });
    await world.clock.pass(60_000);
    expect(askedFor(world, 'ec2:AttachVolume')).toHaveLength(effects);
    expect(askedFor(world, 'ssm:SendCommand')).toHaveLength(0);
  });

  it('end when a function is deleted', async () => {
    const world = createWorld();
    const name = await world.deploy('sdk', 'poll');
    const invocation = invokeFunction(world.cloud, name, {}, PERSON);
    await world.clock.pass(5000);
    await handlerOf(world.lambda, 'Function').delete({ ref: name, attributes: {} });
    expect(await world.clock.run(invocation)).toMatchObject({ ok: false, errorType: 'Runtime.ExitError' });
    await expect(world.invoke(name)).rejects.toMatchObject({ code: 'ResourceNotFoundException', status: 404 });
  });
});

describe('what a function answers', () => {
  it.each([
    ['fail', { ok: false, errorType: 'TypeError', errorMessage: 'volume is not defined' }],
    ['failOddly', { ok: false, errorType: 'string', errorMessage: 'no Error' }],
    ['uncaught', { ok: false, errorType: 'RangeError', errorMessage: 'in a timer' }],
    ['exit', { ok: false, errorType: 'Runtime.ExitError', errorMessage: expect.stringMatching('exit status 1') }],
    [
      'missing',
      { ok: false, errorType: 'Runtime.HandlerNotFound', errorMessage: 'index.missing is undefined or not exported' },
    ],
    ['callback', { ok: false, errorType: 'Runtime.CallbackHandlerDeprecated' }],
    ['nothing', { ok: true, payload: null }],
  ])('%s', async (handler, expected) => {
    const world = createWorld();
    expect(await world.invoke(await world.deploy('plain', handler))).toMatchObject(expected);
  });

  it('is the error of its initialisation', async () => {
    const world = createWorld();
    expect(await world.invoke(await world.deploy('broken', 'handler'))).toMatchObject({
      ok: false,
      errorType: 'ReferenceError',
      errorMessage: 'nonsense is not defined',
    });
  });
});

describe('events', () => {
  const queue = 'arn:aws:sqs:us-east-1:123456789012:dead';
  const topic = 'arn:aws:sns:us-east-1:123456789012:people';

  it('are tried three times, after one and two minutes, and then go to the dead letters as they came', async () => {
    const world = createWorld();
    const name = await world.deploy('plain', 'fail', { DeadLetterConfig: { TargetArn: queue } });
    await world.send(name, { id: 'e-1' }, 600_000);
    const started = lambdaEvents(world, 'started').map(({ at }) => at);
    expect(started.map((at) => Math.round((at - (started[0] ?? 0)) / 60_000))).toEqual([0, 1, 3]);
    expect(askedFor(world, 'sqs:SendMessage')).toMatchObject([
      {
        roleArn: ROLE,
        input: {
          QueueUrl: 'https://sqs.us-east-1.amazonaws.com/123456789012/dead',
          MessageBody: '{"id":"e-1"}',
          MessageAttributes: { ErrorMessage: { StringValue: 'volume is not defined' } },
        },
      },
    ]);
  });

  it('are tried again after the environment was killed', async () => {
    let kills = 1;
    const faults: Faults = {
      onCall: ({ operation }) => (operation === 'AttachVolume' && kills-- > 0 ? { kill: 'before' } : undefined),
    };
    const world = createWorld({ faults });
    await world.send(await world.deploy('sdk', 'attach'), {}, 120_000);
    expect(lambdaEvents(world, 'failed').map(({ detail }) => detail['errorType'])).toEqual(['Runtime.ExitError']);
    expect(lambdaEvents(world, 'succeeded')).toHaveLength(1);
  });

  it('obey the EventInvokeConfig, and its destination is told why', async () => {
    const world = createWorld();
    const FunctionName = await world.deploy('plain', 'fail');
    const properties = {
      FunctionName,
      Qualifier: '$LATEST',
      MaximumRetryAttempts: 0,
      DestinationConfig: { OnFailure: { Destination: topic } },
    };
    await handlerOf(world.lambda, 'EventInvokeConfig').create('Config', properties, context('plain'));
    await world.send(FunctionName, { id: 'e-1' }, 600_000);
    expect(lambdaEvents(world, 'started')).toHaveLength(1);
    const [published] = askedFor(world, 'sns:Publish');
    expect(published).toMatchObject({ roleArn: ROLE, input: { TopicArn: topic } });
    expect(JSON.parse(published?.input.Message)).toMatchObject({
      requestContext: { condition: 'RetriesExhausted', approximateInvokeCount: 1 },
      requestPayload: { id: 'e-1' },
      responsePayload: { errorType: 'TypeError' },
    });
  });

  it('are given up when they would be too old', async () => {
    const world = createWorld();
    const FunctionName = await world.deploy('plain', 'fail', { DeadLetterConfig: { TargetArn: queue } });
    const properties = { FunctionName, Qualifier: '$LATEST', MaximumEventAgeInSeconds: 60 };
    await handlerOf(world.lambda, 'EventInvokeConfig').create('Config', properties, context('plain'));
    await world.send(FunctionName, {}, 600_000);
    expect(lambdaEvents(world, 'started')).toHaveLength(1);
    expect(lambdaEvents(world, 'dropped')[0]?.detail).toMatchObject({ condition: 'EventAgeExceeded' });
    expect(askedFor(world, 'sqs:SendMessage')).toHaveLength(1);
  });
});

describe('who may invoke', () => {
  it('asks IAM for lambda:InvokeFunction on the function', async () => {
    const world = createWorld();
    const name = await world.deploy('plain', 'count');
    world.cloud.authorizer = { deny: (_caller, { action, resource }) => `${action} ${resource} is not allowed` };
    await expect(world.invoke(name)).rejects.toMatchObject({ code: 'AccessDeniedException' });
    expect(world.cloud.denied).toMatchObject([
      { action: 'lambda:InvokeFunction', resource: 'arn:aws:lambda:us-east-1:123456789012:function:stack-Move' },
    ]);
  });

  it('lets services in that have a permission, for the resources that it names', async () => {
    const { lambda, ...world } = createWorld();
    const FunctionName = await world.deploy('plain', 'count');
    const rule = 'arn:aws:events:us-east-1:123456789012:rule/stack-Notice';
    expect(lambda.mayInvoke(FunctionName, 'events.amazonaws.com', rule)).toBe(false);
    const permission = await handlerOf(lambda, 'Permission').create(
      'Allow',
      { Action: 'lambda:InvokeFunction', FunctionName, Principal: 'events.amazonaws.com', SourceArn: rule },
      context('plain'),
    );
    expect(lambda.mayInvoke(FunctionName, 'events.amazonaws.com', rule)).toBe(true);
    expect(lambda.mayInvoke(FunctionName, 'events.amazonaws.com', `${rule}2`)).toBe(false);
    expect(lambda.mayInvoke(FunctionName, 'sns.amazonaws.com', rule)).toBe(false);
    await handlerOf(lambda, 'Permission').delete(permission);
    expect(lambda.mayInvoke(FunctionName, 'events.amazonaws.com', rule)).toBe(false);
  });
});

describe('deployment', () => {
  it.each([
    ['a property', { SnapStart: { ApplyOn: 'PublishedVersions' } }],
    ['a runtime', { Runtime: 'nodejs22.x' }],
    ['code without an asset', { Code: { ZipFile: 'exports.handler = 1' } }],
  ])('refuses %s that is not modelled', async (_what, properties) => {
    const world = createWorld();
    await expect(world.deploy('plain', 'count', properties)).rejects.toThrow(NotModelled);
  });

  it('refuses a role that Lambda may not assume', async () => {
    const cloud = new Cloud({ clock: new VirtualClock(), seed: 1 });
    const assume = async (role: string, principal: string) => {
      throw new AwsError('AccessDenied', `${principal} ${role}`, 403);
    };
    const lambda = new LambdaService(cloud, { endpoint: new Endpoint(cloud), assume });
    await expect(deploy(lambda, 'plain', 'count')).rejects.toThrow(`lambda.amazonaws.com ${ROLE}`);
  });
});
