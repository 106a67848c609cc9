import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { EventBridge } from '../../drill/cloud/events.ts';
import { Iam } from '../../drill/cloud/iam.ts';
import {
  type ApiRequest,
  AwsError,
  type AwsEvent,
  Cloud,
  type Faults,
  NotModelled,
  type Shape,
} from '../../drill/cloud/kernel.ts';
import type { StackContext } from '../../drill/cloud/resource.ts';
import { Sqs } from '../../drill/cloud/sqs.ts';

const STACK: StackContext = { stackName: 'Stack', physicalName: (id) => `Stack-${id}`, assetPath: undefined };
const FUNCTION = 'arn:aws:lambda:us-east-1:123456789012:function:on-interruption';
const MACHINE = 'arn:aws:states:us-east-1:123456789012:stateMachine:relocate';
const RULE = 'arn:aws:events:us-east-1:123456789012:rule/Stack-Rule';
const NOTICE: AwsEvent = {
  version: '0',
  id: '12345678-1234-1234-1234-123456789012',
  'detail-type': 'EC2 Spot Instance Interruption Warning',
  source: 'aws.ec2',
  account: '123456789012',
  time: '2026-01-05T12:00:00Z',
  region: 'us-east-1',
  resources: ['arn:aws:ec2:us-east-1a:instance/i-0123456789abcdef0'],
  detail: { 'instance-id': 'i-0123456789abcdef0', 'instance-action': 'terminate', count: 2, tags: ['a', 'b'] },
};

interface Options {
  readonly faults?: Faults;
  readonly mayInvoke?: boolean;
  readonly withIam?: boolean;
}

function setUp({ faults = {}, mayInvoke = true, withIam = false }: Options = {}) {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1, faults });
  const iam = new Iam(cloud);
  if (withIam) cloud.authorizer = iam;
  const sqs = new Sqs(cloud, iam);
  const bus = new EventBridge(cloud, {
    mayInvoke: () => mayInvoke,
    assume: (...request) => iam.assume(...request),
    queueUrl: (arn) => sqs.urlOf(arn),
  });
  const invocations: { at: number; payload: Shape; caller: string }[] = [];
  const started: Shape[] = [];
  cloud.register({
    name: 'lambda',
    operations: {
      Invoke: {
        authorize: () => [{ action: 'lambda:InvokeFunction', resource: FUNCTION }],
        invoke: ({ Payload }, caller) => {
          invocations.push({
            at: clock.now(),
            payload: JSON.parse(Buffer.from(Payload).toString()),
            caller: caller.roleArn,
          });
        },
      },
    },
  });
  cloud.register({
    name: 'states',
    operations: {
      StartExecution: {
        authorize: () => [{ action: 'states:StartExecution', resource: MACHINE }],
        invoke: (input) => started.push(input),
      },
    },
  });
  const handlers = { ...bus.handlers, ...sqs.handlers, ...iam.handlers };
  const create = (type: string, logicalId: string, properties: Shape) =>
    clock.run((async () => handlers[type]?.create(logicalId, properties, STACK))());
  const rule = (properties: Shape) => create('AWS::Events::Rule', 'Rule', properties);
  /** A rule for all events of EC2 with one target, and one such event. */
  const notify = async (target: Shape, settleMs = 1000) => {
    await rule({ EventPattern: { source: ['aws.ec2'] }, Targets: [{ Id: 'Target', ...target }] });
    cloud.emit(NOTICE);
    await clock.pass(settleMs);
  };
  return { clock, cloud, bus, sqs, iam, create, rule, notify, invocations, started };
}

describe('an event pattern', () => {
  it.each<[string, Shape, boolean]>([
    ['an exact value', { source: ['aws.ec2'] }, true],
    ['one of several values', { source: ['aws.ebs', 'aws.ec2'] }, true],
    ['another value', { source: ['aws.ebs'] }, false],
    ['all fields', { source: ['aws.ec2'], detail: { 'instance-action': ['stop'] } }, false],
    ['an element of an array', { detail: { tags: ['b'] } }, true],
    ['a number', { detail: { count: [2] } }, true],
    ['a number as text', { detail: { count: ['2'] } }, false],
    ['prefix', { 'detail-type': [{ prefix: 'EC2 Spot' }] }, true],
    ['another prefix', { 'detail-type': [{ prefix: 'ec2 spot' }] }, false],
    ['prefix in any case', { 'detail-type': [{ prefix: { 'equals-ignore-case': 'ec2 spot' } }] }, true],
    ['suffix', { 'detail-type': [{ suffix: 'Warning' }] }, true],
    ['equals-ignore-case', { source: [{ 'equals-ignore-case': 'AWS.EC2' }] }, true],
    ['wildcard', { 'detail-type': [{ wildcard: 'EC2*Interruption*' }] }, true],
    ['wildcard with a dot', { source: [{ wildcard: 'aws?ec*' }] }, false],
    ['anything-but', { source: [{ 'anything-but': ['aws.ebs'] }] }, true],
    ['anything-but that value', { source: [{ 'anything-but': 'aws.ec2' }] }, false],
    ['anything-but a prefix', { source: [{ 'anything-but': { prefix: 'aws.' } }] }, false],
    ['anything-but without the field', { detail: { colour: [{ 'anything-but': 'red' }] } }, false],
    ['exists', { detail: { count: [{ exists: true }] } }, true],
    ['exists on an object', { detail: [{ exists: true }] }, false],
    ['exists not', { detail: { colour: [{ exists: false }] } }, true],
    ['exists not, but it does', { source: [{ exists: false }] }, false],
    ['numeric', { detail: { count: [{ numeric: ['>', 1, '<=', 2] }] } }, true],
    ['numeric out of range', { detail: { count: [{ numeric: ['>', 2] }] } }, false],
    ['$or', { $or: [{ source: ['aws.ebs'] }, { detail: { count: [2] } }] }, true],
    ['$or of none', { $or: [{ source: ['aws.ebs'] }, { detail: { count: [3] } }] }, false],
  ])('%s', async (_name, EventPattern, matches) => {
    const { rule, cloud, clock, invocations } = setUp();
    await rule({ EventPattern, Targets: [{ Id: 'Target', Arn: FUNCTION }] });
    cloud.emit(NOTICE);
    await clock.pass(1000);
    expect(invocations).toHaveLength(matches ? 1 : 0);
  });

  it('with an unknown operator is not modelled', async () => {
    const { rule } = setUp();
    await expect(rule({ EventPattern: { source: [{ cidr: '10.0.0.0/8' }] } })).rejects.toThrow(NotModelled);
  });

  it.each<[string, Shape]>([
    ['a value that is no list', { source: 'aws.ec2' }],
    ['an empty list', { source: [] }],
    ['two operators in one', { source: [{ prefix: 'a', suffix: 'b' }] }],
  ])('with %s is invalid', async (_name, EventPattern) => {
    const { rule } = setUp();
    await expect(rule({ EventPattern })).rejects.toThrow('Event pattern is not valid');
  });
});

describe('a target', () => {
  it('gets the event, soon, from EventBridge in the name of the rule', async () => {
    const { notify, invocations, clock } = setUp();
    const start = clock.now();
    await notify({ Arn: FUNCTION });
    expect(invocations).toMatchObject([{ payload: NOTICE, caller: 'events.amazonaws.com' }]);
    expect((invocations[0]?.at ?? 0) - start).toBeGreaterThan(10);
    expect((invocations[0]?.at ?? 0) - start).toBeLessThan(1000);
  });

  it('gets nothing from a disabled rule, or after the rule is deleted', async () => {
    const { rule, bus, cloud, clock, invocations } = setUp();
    const Targets = [{ Id: 'Target', Arn: FUNCTION }];
    await rule({ EventPattern: { source: ['aws.ec2'] }, Targets, State: 'DISABLED' });
    await rule({ EventPattern: { source: ['aws.ec2'] }, Targets });
    await bus.handlers['AWS::Events::Rule']?.delete({ ref: 'Stack-Rule', attributes: {} });
    cloud.emit(NOTICE);
    await clock.pass(1000);
    expect(invocations).toEqual([]);
  });

  it.each<[string, Shape, unknown]>([
    ['a constant', { Input: '{"a":1}' }, { a: 1 }],
    ['a part', { InputPath: '$.detail.tags[1]' }, 'b'],
    [
      'a transformed event',
      {
        InputTransformer: {
          InputPathsMap: { id: '$.detail.instance-id', tags: '$.detail.tags', n: '$.detail.count' },
          InputTemplate:
            '{"id":<id>,"tags":<tags>,"n":<n>,"text":"host <id> is \\"<n>\\"","rule":<aws.events.rule-arn>}',
        },
      },
      { id: 'i-0123456789abcdef0', tags: ['a', 'b'], n: 2, text: 'host i-0123456789abcdef0 is "2"', rule: RULE },
    ],
  ])('can get %s', async (_name, input, expected) => {
    const { notify, invocations } = setUp();
    await notify({ Arn: FUNCTION, ...input });
    expect(invocations[0]?.payload).toEqual(expected);
  });

  it.each<[string, Shape]>([
    ['a target of another service', { Arn: 'arn:aws:kinesis:us-east-1:123456789012:stream/s' }],
    ['a template variable that the map does not have', { Arn: FUNCTION, InputTransformer: { InputTemplate: '"<a>"' } }],
    ['a path with a wildcard', { Arn: FUNCTION, InputPath: '$.detail.*' }],
    ['a parameter of other targets', { Arn: FUNCTION, EcsParameters: {} }],
  ])('%s is not modelled', async (_name, target) => {
    const { notify } = setUp();
    await expect(notify(target)).rejects.toThrow(NotModelled);
  });

  it('that is a state machine is started in the name of the role', async () => {
    const { create, notify, started, cloud } = setUp({ withIam: true });
    const Statement = [{ Effect: 'Allow', Action: 'states:StartExecution', Resource: MACHINE }];
    const role = await create('AWS::IAM::Role', 'Role', {
      AssumeRolePolicyDocument: {
        Version: '2012-10-17',
        Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 'events.amazonaws.com' } }],
      },
      Policies: [{ PolicyName: 'Start', PolicyDocument: { Version: '2012-10-17', Statement } }],
    });
    await notify({ Arn: MACHINE, RoleArn: role?.attributes.Arn });
    expect(cloud.denied).toEqual([]);
    expect(started).toEqual([{ stateMachineArn: MACHINE, input: JSON.stringify(NOTICE) }]);
  });
});

describe('an event that cannot be delivered', () => {
  async function withDeadLetters(options: Options) {
    const setting = setUp(options);
    const queue = await setting.create('AWS::SQS::Queue', 'Dlq', {});
    const allow = {
      Effect: 'Allow',
      Principal: { Service: 'events.amazonaws.com' },
      Action: 'sqs:SendMessage',
      Resource: queue?.attributes.Arn,
      Condition: { ArnEquals: { 'aws:SourceArn': RULE } },
    };
    const PolicyDocument = { Version: '2012-10-17', Statement: [allow] };
    await setting.create('AWS::SQS::QueuePolicy', 'Policy', { Queues: [queue?.ref], PolicyDocument });
    return { ...setting, target: { Arn: FUNCTION, DeadLetterConfig: { Arn: queue?.attributes.Arn } } };
  }

  /** Lambda answers the first requests with this error. */
  const failing = (error: AwsError, times = Number.POSITIVE_INFINITY): Faults => {
    let count = 0;
    return {
      onCall: ({ service }: ApiRequest) => (service === 'lambda' && count++ < times ? { error } : undefined),
    };
  };

  it('is tried again while the target is throttled or down', async () => {
    const faults = failing(new AwsError('ServiceException', 'down', 500), 3);
    const { notify, target, invocations, sqs } = await withDeadLetters({ faults });
    await notify(target, 60_000);
    expect(invocations).toHaveLength(1);
    expect(sqs.messages).toEqual([]);
  });

  it('is buried with its history when the attempts are used up', async () => {
    const faults = failing(new AwsError('TooManyRequestsException', 'Rate Exceeded.', 429));
    const { notify, target, sqs } = await withDeadLetters({ faults, withIam: true });
    await notify({ ...target, RetryPolicy: { MaximumRetryAttempts: 2 } }, 60_000);
    expect(sqs.messages).toHaveLength(1);
    expect(JSON.parse(sqs.messages[0]?.body ?? '')).toEqual(NOTICE);
    expect(sqs.messages[0]?.attributes).toEqual({
      RULE_ARN: RULE,
      TARGET_ARN: FUNCTION,
      ERROR_CODE: 'THROTTLING',
      ERROR_MESSAGE: 'Rate Exceeded.',
      RETRY_ATTEMPTS: '2',
      EXHAUSTED_RETRY_CONDITION: 'MaximumRetryAttempts',
    });
  });

  it('is buried when it is too old', async () => {
    const faults = failing(new AwsError('ServiceException', 'down', 500));
    const { notify, target, sqs, clock } = await withDeadLetters({ faults });
    const start = clock.now();
    await notify({ ...target, RetryPolicy: { MaximumEventAgeInSeconds: 60 } }, 300_000);
    expect(sqs.messages[0]?.attributes.EXHAUSTED_RETRY_CONDITION).toBe('MaximumEventAgeInSeconds');
    expect((sqs.messages[0]?.at ?? 0) - start).toBeLessThan(60_000);
  });

  it('is buried at once when the function does not let the rule invoke it', async () => {
    const { notify, target, sqs, invocations } = await withDeadLetters({ mayInvoke: false });
    await notify(target);
    expect(invocations).toEqual([]);
    expect(sqs.messages[0]?.attributes).toMatchObject({ ERROR_CODE: 'NO_PERMISSIONS', RETRY_ATTEMPTS: '0' });
  });

  it('is lost, but not silently, without a queue for it', async () => {
    const { notify, cloud } = setUp({ mayInvoke: false });
    await notify({ Arn: FUNCTION });
    expect(cloud.happenings.filter(({ kind }) => kind === 'undelivered')).toMatchObject([{ subject: FUNCTION }]);
  });

  it('is an error of the model when the input cannot be made', async () => {
    const { notify, cloud } = setUp();
    await notify({ Arn: FUNCTION, InputPath: '$.detail.colour' });
    expect(cloud.failure).toBeInstanceOf(NotModelled);
  });
});

describe('a schedule', () => {
  const Targets = [{ Id: 'Target', Arn: FUNCTION }];

  it('fires at its rate, with an event that names the rule', async () => {
    const { rule, clock, invocations } = setUp();
    await rule({ ScheduleExpression: 'rate(1 minute)', Targets });
    await clock.pass(5 * 60_000 + 1000);
    expect(invocations).toHaveLength(5);
    expect(invocations[0]?.payload).toMatchObject({
      'detail-type': 'Scheduled Event',
      source: 'aws.events',
      time: '2026-01-05T12:01:00Z',
      resources: [RULE],
      detail: {},
    });
  });

  it('can be lost, like any event', async () => {
    const { rule, clock, invocations } = setUp({ faults: { onEvent: () => ({ delaysMs: [] }) } });
    await rule({ ScheduleExpression: 'rate(1 minute)', Targets });
    await clock.pass(5 * 60_000);
    expect(invocations).toEqual([]);
  });

  it('can be paused, resumed and fired by hand', async () => {
    const { rule, bus, clock, invocations } = setUp();
    await rule({ ScheduleExpression: 'rate(1 minute)', Targets });
    bus.pauseSchedules();
    await clock.pass(5 * 60_000);
    expect(invocations).toHaveLength(0);
    bus.tick('Stack-Rule');
    await clock.pass(1000);
    expect(invocations).toHaveLength(1);
    bus.resumeSchedules();
    await clock.pass(61_000);
    expect(invocations).toHaveLength(2);
    expect(() => bus.tick('none')).toThrow('there is no enabled rule none');
  });

  // The clock starts on Monday, 2026-01-05, at noon.
  it.each([
    ['cron(0 3 * * ? *)', '2026-01-06T03:00:00Z'],
    ['cron(15,45 12 * * ? *)', '2026-01-05T12:15:00Z'],
    ['cron(0/20 * * * ? *)', '2026-01-05T12:20:00Z'],
    ['cron(0 9-11 ? * MON-FRI *)', '2026-01-06T09:00:00Z'],
    ['cron(0 10 ? * 1 *)', '2026-01-11T10:00:00Z'],
    ['cron(0 8 1 * ? *)', '2026-02-01T08:00:00Z'],
    ['cron(0 0 29 FEB ? *)', '2028-02-29T00:00:00Z'],
    ['rate(2 hours)', '2026-01-05T14:00:00Z'],
    ['rate(1 day)', '2026-01-06T12:00:00Z'],
  ])('%s fires next at %s', async (ScheduleExpression, next) => {
    const { rule, clock, invocations } = setUp();
    await rule({ ScheduleExpression, Targets });
    await clock.run(
      (async () => {
        await clock.sleep(Date.parse(next) - clock.now() - 1);
        expect(invocations).toEqual([]);
        await clock.sleep(1000);
      })(),
      Number.POSITIVE_INFINITY,
    );
    expect(invocations.map(({ payload }) => payload.time)).toEqual([next]);
  });

  it.each([
    'rate(1 minutes)',
    'rate(0 minutes)',
    'rate(5 seconds)',
    'cron(0 3 * * * *)',
    'cron(61 3 * * ? *)',
    'daily',
  ])('%s is invalid', async (ScheduleExpression) => {
    const { rule } = setUp();
    await expect(rule({ ScheduleExpression })).rejects.toThrow('ScheduleExpression is not valid');
  });

  it('on the last day of the month is not modelled', async () => {
    const { rule } = setUp();
    await expect(rule({ ScheduleExpression: 'cron(0 3 L * ? *)' })).rejects.toThrow(NotModelled);
  });
});
