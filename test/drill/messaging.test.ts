import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { CloudWatch } from '../../drill/cloud/cloudwatch.ts';
import { Iam } from '../../drill/cloud/iam.ts';
import { Cloud, NotModelled, type ServiceName, type Shape } from '../../drill/cloud/kernel.ts';
import { Logs } from '../../drill/cloud/logs.ts';
import type { StackContext } from '../../drill/cloud/resource.ts';
import { Sns } from '../../drill/cloud/sns.ts';
import { Sqs } from '../../drill/cloud/sqs.ts';

const STACK: StackContext = { stackName: 'Stack', physicalName: (id) => `Stack-${id}`, assetPath: undefined };
const TOPIC = 'arn:aws:sns:us-east-1:123456789012:Stack-People';
const QUEUE = 'arn:aws:sqs:us-east-1:123456789012:Stack-Letters';
const FUNCTION = 'arn:aws:lambda:us-east-1:123456789012:function:tell';

function setUp() {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1 });
  const iam = new Iam(cloud);
  cloud.authorizer = iam;
  const sqs = new Sqs(cloud, iam);
  const sns = new Sns(cloud, { policies: iam, mayInvoke: () => true, queueUrl: (arn) => sqs.urlOf(arn) });
  const logs = new Logs(cloud);
  const cloudWatch = new CloudWatch(cloud);
  const invocations: Shape[] = [];
  cloud.register({
    name: 'lambda',
    operations: {
      Invoke: {
        authorize: () => [{ action: 'lambda:InvokeFunction', resource: FUNCTION }],
        invoke: ({ Payload }) => invocations.push(JSON.parse(Buffer.from(Payload).toString())),
      },
    },
  });
  const handlers = { ...sqs.handlers, ...sns.handlers, ...logs.handlers, ...cloudWatch.handlers };
  const create = (type: string, logicalId: string, properties: Shape = {}) =>
    clock.run((async () => handlers[type]?.create(logicalId, properties, STACK))());
  const call = (service: ServiceName, operation: string, input: Shape) =>
    clock.run(cloud.call({ service, operation, input, caller: iam.administrator }));
  return { clock, cloud, sqs, sns, logs, cloudWatch, invocations, create, call };
}

const allow = (principal: string, resource: string) => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: principal }, Action: 'sqs:SendMessage', Resource: resource }],
});

describe('a topic', () => {
  it('keeps what is published, for people to read', async () => {
    const { create, call, sns } = setUp();
    await create('AWS::SNS::Topic', 'People');
    await create('AWS::SNS::Subscription', 'Mail', { TopicArn: TOPIC, Protocol: 'email', Endpoint: 'a@example.com' });
    const { MessageId } = await call('sns', 'Publish', { TopicArn: TOPIC, Subject: 'Moved', Message: 'It took 9 s.' });
    expect(sns.messages).toMatchObject([
      { messageId: MessageId, topicArn: TOPIC, subject: 'Moved', message: 'It took 9 s.' },
    ]);
    expect(sns.subscriptions).toMatchObject([{ protocol: 'email', endpoint: 'a@example.com' }]);
  });

  it('passes messages on to queues that let it, and to functions', async () => {
    const { create, call, clock, sqs, invocations } = setUp();
    await create('AWS::SNS::Topic', 'People');
    const queue = await create('AWS::SQS::Queue', 'Letters');
    const PolicyDocument = allow('sns.amazonaws.com', QUEUE);
    await create('AWS::SQS::QueuePolicy', 'Policy', { Queues: [queue?.ref], PolicyDocument });
    for (const [Protocol, Endpoint] of [
      ['sqs', QUEUE],
      ['lambda', FUNCTION],
    ]) {
      await create('AWS::SNS::Subscription', 'Subscription', { TopicArn: TOPIC, Protocol, Endpoint });
    }
    await call('sns', 'Publish', { TopicArn: TOPIC, Message: 'hello' });
    await clock.pass(1000);
    const notification = { Type: 'Notification', TopicArn: TOPIC, Message: 'hello' };
    expect(JSON.parse(sqs.messages[0]?.body ?? '')).toMatchObject(notification);
    expect(invocations).toMatchObject([{ Records: [{ EventSource: 'aws:sns', Sns: notification }] }]);
  });

  it('says what it could not pass on', async () => {
    const { create, call, clock, cloud, sqs } = setUp();
    await create('AWS::SNS::Topic', 'People');
    await create('AWS::SQS::Queue', 'Letters');
    await create('AWS::SNS::Subscription', 'Subscription', { TopicArn: TOPIC, Protocol: 'sqs', Endpoint: QUEUE });
    await call('sns', 'Publish', { TopicArn: TOPIC, Message: 'hello' });
    await clock.pass(1000);
    expect(sqs.messages).toEqual([]);
    expect(cloud.happenings.filter(({ kind }) => kind === 'undelivered')).toMatchObject([{ subject: QUEUE }]);
  });

  it.each<[string, Shape, string]>([
    ['a topic that does not exist', { TopicArn: `${TOPIC}s`, Message: 'm' }, 'Topic does not exist'],
    ['a subject of two lines', { TopicArn: TOPIC, Message: 'm', Subject: 'a\nb' }, 'Invalid parameter: Subject'],
    ['a subject of 101 characters', { TopicArn: TOPIC, Message: 'm', Subject: 'a'.repeat(101) }, 'Subject'],
    ['an empty message', { TopicArn: TOPIC, Message: '' }, 'Empty message'],
    ['a message of more than 256 KiB', { TopicArn: TOPIC, Message: 'é'.repeat(131_073) }, 'too long'],
  ])('refuses %s', async (_name, input, message) => {
    const { create, call } = setUp();
    await create('AWS::SNS::Topic', 'People');
    await expect(call('sns', 'Publish', input)).rejects.toThrow(message);
  });

  it.each<[string, string, Shape]>([
    ['a filter', 'AWS::SNS::Subscription', { TopicArn: TOPIC, Protocol: 'email', Endpoint: 'a', FilterPolicy: {} }],
    ['a text message', 'AWS::SNS::Subscription', { TopicArn: TOPIC, Protocol: 'sms', Endpoint: '+1' }],
    ['a key', 'AWS::SNS::Topic', { KmsMasterKeyId: 'alias/own' }],
  ])('with %s is not modelled', async (_name, type, properties) => {
    const { create } = setUp();
    await expect(create(type, 'People', properties)).rejects.toThrow(NotModelled);
  });
});

describe('a queue', () => {
  it('keeps what is sent', async () => {
    const { create, call, sqs } = setUp();
    const queue = await create('AWS::SQS::Queue', 'Letters', { MessageRetentionPeriod: 1_209_600 });
    expect(queue?.attributes).toMatchObject({ Arn: QUEUE, QueueName: 'Stack-Letters' });
    const MessageAttributes = { ERROR_CODE: { DataType: 'String', StringValue: 'TIMEOUT' } };
    await call('sqs', 'SendMessage', { QueueUrl: queue?.ref, MessageBody: '{}', MessageAttributes });
    expect(sqs.messages).toMatchObject([{ queueArn: QUEUE, body: '{}', attributes: { ERROR_CODE: 'TIMEOUT' } }]);
  });

  it('is gone once it is deleted', async () => {
    const { create, call, sqs } = setUp();
    const queue = await create('AWS::SQS::Queue', 'Letters');
    await sqs.handlers['AWS::SQS::Queue']?.delete({ ref: queue?.ref ?? '', attributes: {} });
    const input = { QueueUrl: queue?.ref, MessageBody: 'm' };
    await expect(call('sqs', 'SendMessage', input)).rejects.toThrow('The specified queue does not exist.');
  });

  it.each<[string, Shape]>([
    ['first-in-first-out order', { FifoQueue: true }],
    ['a dead-letter queue of its own', { RedrivePolicy: {} }],
  ])('with %s is not modelled', async (_name, properties) => {
    const { create } = setUp();
    await expect(create('AWS::SQS::Queue', 'Letters', properties)).rejects.toThrow(NotModelled);
  });

  it('with two policies is not modelled', async () => {
    const { create } = setUp();
    const queue = await create('AWS::SQS::Queue', 'Letters');
    const properties = { Queues: [queue?.ref], PolicyDocument: allow('sns.amazonaws.com', QUEUE) };
    await create('AWS::SQS::QueuePolicy', 'First', properties);
    await expect(create('AWS::SQS::QueuePolicy', 'Second', properties)).rejects.toThrow(NotModelled);
  });
});

describe('a log group', () => {
  it('has a name and a retention', async () => {
    const { create, logs } = setUp();
    const group = await create('AWS::Logs::LogGroup', 'Log', { LogGroupName: '/keeper', RetentionInDays: 30 });
    expect(group).toEqual({
      ref: '/keeper',
      attributes: { Arn: 'arn:aws:logs:us-east-1:123456789012:log-group:/keeper:*' },
    });
    expect(logs.groups).toEqual([{ name: '/keeper', retentionInDays: 30 }]);
    await expect(create('AWS::Logs::LogGroup', 'Log', { LogGroupName: '/keeper' })).rejects.toThrow('already exists');
  });

  it('is kept only as long as CloudWatch Logs offers', async () => {
    const { create } = setUp();
    await expect(create('AWS::Logs::LogGroup', 'Log', { RetentionInDays: 31 })).rejects.toThrow('Invalid retention');
  });
});

describe('CloudWatch', () => {
  it('keeps metrics and alarms', async () => {
    const { create, call, cloudWatch, clock } = setUp();
    await create('AWS::CloudWatch::Alarm', 'Alarm', { MetricName: 'Downtime', Threshold: 60 });
    await call('cloudwatch', 'PutMetricData', {
      Namespace: 'Keeper',
      MetricData: [{ MetricName: 'Downtime', Value: 9, Dimensions: [{ Name: 'Database', Value: 'lighthouse' }] }],
    });
    expect(cloudWatch.alarms.get('Stack-Alarm')).toMatchObject({ Threshold: 60 });
    expect(cloudWatch.metrics).toMatchObject([
      { namespace: 'Keeper', metricName: 'Downtime', value: 9, unit: 'None', dimensions: { Database: 'lighthouse' } },
    ]);
    expect(cloudWatch.metrics[0]?.at).toBeLessThanOrEqual(clock.now());
  });

  it('does not let programs put metrics into the namespaces of AWS', async () => {
    const { call } = setUp();
    await expect(call('cloudwatch', 'PutMetricData', { Namespace: 'AWS/EC2', MetricData: [] })).rejects.toThrow('AWS/');
  });
});
