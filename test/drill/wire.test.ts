import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AttachVolumeCommand,
  CreateFleetCommand,
  DeleteTagsCommand,
  DescribeInstancesCommand,
  EC2Client,
} from '@aws-sdk/client-ec2';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import {
  SendTaskSuccessCommand,
  SFNClient,
  StartExecutionCommand,
  StartSyncExecutionCommand,
} from '@aws-sdk/client-sfn';
import { PublishCommand, SNSClient } from '@aws-sdk/client-sns';
import { GetCommandInvocationCommand, SendCommandCommand, SSMClient } from '@aws-sdk/client-ssm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RealClock } from '../../drill/cloud/clock.ts';
import {
  AwsError,
  Cloud,
  NotModelled,
  type Operation,
  type ServiceName,
  type Shape,
} from '../../drill/cloud/kernel.ts';
import { Endpoint } from '../../drill/cloud/wire/endpoint.ts';
import { EndpointServer } from '../../drill/cloud/wire/server.ts';

const HOST = { roleArn: 'arn:aws:iam::123456789012:role/host', session: 'i-0123456789abcdef0' };

/** A cloud whose operations answer what a test says, and that remembers what it was asked. */
function cloudThatAnswers(answers: Record<string, (input: Shape) => Shape>) {
  const cloud = new Cloud({ clock: new RealClock(), seed: 1 });
  cloud.latencyScale = 0;
  const asked: { operation: string; input: Shape; caller: string }[] = [];
  const services = new Map<ServiceName, Record<string, Operation>>();
  for (const [name, answer] of Object.entries(answers)) {
    const [service = '', operation = ''] = name.split(':');
    const operations = services.get(service as ServiceName) ?? {};
    operations[operation] = {
      authorize: () => [],
      invoke: (input, caller) => {
        asked.push({ operation: name, input, caller: caller.session });
        return answer(input);
      },
    };
    services.set(service as ServiceName, operations);
  }
  for (const [name, operations] of services) cloud.register({ name, operations });
  return { cloud, asked };
}

let answers: Record<string, (input: Shape) => Shape>;
let world: ReturnType<typeof cloudThatAnswers>;
let endpoint: Endpoint;
let server: EndpointServer;

function client<T>(
  Client: new (options: Shape) => T,
  credentials: Shape = endpoint.issueCredentials(HOST),
  maxAttempts = 1,
): T {
  return new Client({
    region: 'us-east-1',
    endpoint: server.address,
    credentials,
    maxAttempts,
    disableHostPrefix: true,
  });
}

/** What a client sends besides the body; the signature itself is not looked at. */
function headersFor(to: Endpoint, service: string): Record<string, string> {
  const { accessKeyId } = to.issueCredentials(HOST);
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20260105/us-east-1/${service}/aws4_request`;
  return { authorization, 'x-amz-target': 'AmazonSSM.SendCommand' };
}

function sendRaw(to: Endpoint, service: string, body: string) {
  return to.handle({ method: 'POST', path: '/', headers: headersFor(to, service), body: Buffer.from(body) });
}

beforeAll(async () => {
  answers = {};
  const dispatch = new Proxy(answers, { get: (target, key: string) => target[key] });
  const names = [
    'ec2:AttachVolume',
    'ec2:CreateFleet',
    'ec2:DeleteTags',
    'ec2:DescribeInstances',
    'ssm:SendCommand',
    'ssm:GetCommandInvocation',
    'states:StartExecution',
    'states:StartSyncExecution',
    'states:SendTaskSuccess',
    'sns:Publish',
    'lambda:Invoke',
  ];
  world = cloudThatAnswers(Object.fromEntries(names.map((name) => [name, (input) => dispatch[name]?.(input) ?? {}])));
  endpoint = new Endpoint(world.cloud);
  server = await EndpointServer.listen(endpoint, { port: 0 });
});

beforeEach(() => {
  world.asked.length = 0;
  for (const name of Object.keys(answers)) delete answers[name];
});

afterAll(() => server.close());

describe('EC2 (ec2Query)', () => {
  it('decodes nested structures, lists, numbers and booleans as the client sent them', async () => {
    const input = {
      Type: 'instant',
      ClientToken: 'token',
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: 'lt-1',
            Version: '$Latest',
            LaunchTemplateSpecificationUserData: 'IyEvYmluL3No+/==',
          },
          Overrides: [
            { InstanceType: 't4g.small', SubnetId: 'subnet-1', Priority: 1.5 },
            { InstanceType: 't4g.medium', SubnetId: 'subnet-1' },
          ],
        },
      ],
      SpotOptions: { AllocationStrategy: 'price-capacity-optimized' },
      TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'spot' },
      TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'keeper:database', Value: 'a & b' }] }],
      DryRun: false,
    };
    await client(EC2Client).send(new CreateFleetCommand(input as Shape));
    expect(world.asked[0]?.input).toEqual(input);
  });

  it('encodes more than nine list items in order, and times, tags and empty lists', async () => {
    const launched = new Date('2026-01-05T12:00:00.250Z');
    const tags = Array.from({ length: 11 }, (_, i) => ({ Key: `k${i}`, Value: `<${i}> & "x"` }));
    const instances = [
      { InstanceId: 'i-1', LaunchTime: launched, Tags: tags, State: { Code: 16, Name: 'running' }, EbsOptimized: true },
    ];
    answers['ec2:DescribeInstances'] = () => ({ Reservations: [{ Instances: instances, Groups: [] }] });
    const ids = tags.map(({ Key }) => Key);
    const output = await client(EC2Client).send(new DescribeInstancesCommand({ InstanceIds: ids }));
    expect(output.Reservations).toEqual([{ Instances: instances, Groups: [] }]);
    expect(world.asked[0]?.input.InstanceIds).toEqual(ids);
    expect(world.asked[0]?.caller).toBe(HOST.session);
  });

  it('answers operations that return nothing', async () => {
    const output = await client(EC2Client).send(
      new DeleteTagsCommand({ Resources: ['vol-1'], Tags: [{ Key: 'keeper:blank' }] }),
    );
    expect(output.$metadata.httpStatusCode).toBe(200);
    expect(world.asked[0]?.input).toEqual({ Resources: ['vol-1'], Tags: [{ Key: 'keeper:blank' }] });
  });

  it('surfaces an error under its code, with status and message', async () => {
    answers['ec2:AttachVolume'] = () => {
      throw new AwsError('VolumeInUse', 'vol-1 is already attached to <an instance>');
    };
    const attach = client(EC2Client).send(
      new AttachVolumeCommand({ VolumeId: 'vol-1', InstanceId: 'i-1', Device: '/dev/sdf' }),
    );
    await expect(attach).rejects.toMatchObject({
      name: 'VolumeInUse',
      message: 'vol-1 is already attached to <an instance>',
      $metadata: { httpStatusCode: 400 },
    });
  });

  it('is seen as throttling by the SDK, which tries again', async () => {
    answers['ec2:AttachVolume'] = () => {
      if (world.asked.length === 1) throw new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503);
      return { State: 'attaching' };
    };
    const ec2 = client(EC2Client, undefined, 2);
    const output = await ec2.send(
      new AttachVolumeCommand({ VolumeId: 'vol-1', InstanceId: 'i-1', Device: '/dev/sdf' }),
    );
    expect(output).toMatchObject({ State: 'attaching', $metadata: { attempts: 2 } });
  });

  it('misses a required parameter as EC2 does', async () => {
    const attach = client(EC2Client).send(new AttachVolumeCommand({ VolumeId: 'vol-1', Device: '/dev/sdf' } as Shape));
    await expect(attach).rejects.toMatchObject({
      name: 'MissingParameter',
      message: 'The request must contain the parameter InstanceId',
    });
  });
});

describe('Systems Manager and Step Functions (awsJson)', () => {
  it('carries maps, lists and times both ways', async () => {
    const requested = new Date('2026-01-05T12:00:00.250Z');
    answers['ssm:SendCommand'] = () => ({ Command: { CommandId: 'c-1', RequestedDateTime: requested } });
    const input = {
      DocumentName: 'keeper-release',
      InstanceIds: ['i-1'],
      Parameters: { volume: ['vol-1', 'ü'] },
      TimeoutSeconds: 30,
    };
    const output = await client(SSMClient).send(new SendCommandCommand(input));
    expect(world.asked[0]?.input).toEqual(input);
    expect(output.Command).toEqual({ CommandId: 'c-1', RequestedDateTime: requested });
  });

  it('gives modelled errors their name and their class', async () => {
    answers['ssm:GetCommandInvocation'] = () => {
      throw new AwsError('InvocationDoesNotExist', '');
    };
    answers['states:StartExecution'] = () => {
      throw new AwsError('ExecutionAlreadyExists', 'Execution Already Exists');
    };
    const get = client(SSMClient).send(new GetCommandInvocationCommand({ CommandId: 'c-1', InstanceId: 'i-1' }));
    await expect(get).rejects.toMatchObject({ name: 'InvocationDoesNotExist', $fault: 'client' });
    const start = client(SFNClient).send(new StartExecutionCommand({ stateMachineArn: 'arn', name: 'x' }));
    await expect(start).rejects.toMatchObject({ name: 'ExecutionAlreadyExists', message: 'Execution Already Exists' });
  });

  it('retries a ThrottlingException', async () => {
    answers['states:SendTaskSuccess'] = () => {
      if (world.asked.length === 1) throw new AwsError('ThrottlingException', 'Rate exceeded');
      return {};
    };
    const output = await client(SFNClient, undefined, 2).send(
      new SendTaskSuccessCommand({ taskToken: 't', output: '{}' }),
    );
    expect(output.$metadata.attempts).toBe(2);
  });

  it('answers StartSyncExecution', async () => {
    const at = new Date('2026-01-05T12:00:00.250Z');
    answers['states:StartSyncExecution'] = () => ({
      executionArn: 'e',
      startDate: at,
      stopDate: at,
      status: 'SUCCEEDED',
      output: '{"a":1}',
    });
    const output = await client(SFNClient).send(new StartSyncExecutionCommand({ stateMachineArn: 'arn', input: '{}' }));
    expect(output).toMatchObject({ status: 'SUCCEEDED', stopDate: at, output: '{"a":1}' });
  });
});

describe('SNS (awsQuery)', () => {
  it('carries messages with attributes', async () => {
    answers['sns:Publish'] = () => ({ MessageId: 'm-1' });
    const input = {
      TopicArn: 'arn:aws:sns:us-east-1:123456789012:people',
      Message: 'line 1\nline 2 = ü',
      MessageAttributes: { kind: { DataType: 'String', StringValue: 'alarm' } },
    };
    const output = await client(SNSClient).send(new PublishCommand(input));
    expect(output.MessageId).toBe('m-1');
    expect(world.asked[0]?.input).toEqual(input);
  });

  it('has the error codes of the wire, from which the SDK makes its names', async () => {
    answers['sns:Publish'] = () => {
      throw new AwsError('NotFoundException', 'Topic does not exist', 404);
    };
    const publish = client(SNSClient).send(new PublishCommand({ TopicArn: 'arn', Message: 'm' }));
    await expect(publish).rejects.toMatchObject({ name: 'NotFoundException', message: 'Topic does not exist' });
    const { status, body } = await sendRaw(endpoint, 'sns', 'Action=Publish&Message=m');
    expect(status).toBe(404);
    expect(body).toContain('<Code>NotFound</Code>');
  });
});

describe('Lambda (restJson)', () => {
  it('carries the function in the path, the type in a header and the payload as the body', async () => {
    answers['lambda:Invoke'] = () => ({
      StatusCode: 200,
      FunctionError: 'Unhandled',
      Payload: Buffer.from('{"errorType":"E"}'),
    });
    const command = new InvokeCommand({
      FunctionName: 'stack-Move',
      InvocationType: 'RequestResponse',
      Payload: Buffer.from('{"a":1}'),
    });
    const output = await client(LambdaClient).send(command);
    expect(world.asked[0]?.input).toMatchObject({ FunctionName: 'stack-Move', InvocationType: 'RequestResponse' });
    expect(Buffer.from(world.asked[0]?.input.Payload).toString()).toBe('{"a":1}');
    expect(output).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' });
    expect(output.Payload?.transformToString()).toBe('{"errorType":"E"}');
  });

  it('is throttled as Lambda throttles', async () => {
    answers['lambda:Invoke'] = () => {
      throw new AwsError('TooManyRequestsException', 'Rate Exceeded.', 429);
    };
    const invoke = client(LambdaClient).send(new InvokeCommand({ FunctionName: 'f' }));
    await expect(invoke).rejects.toMatchObject({
      name: 'TooManyRequestsException',
      $metadata: { httpStatusCode: 429 },
    });
  });
});

describe('the endpoint', () => {
  it('refuses an access key that it did not issue, in the words of each service', async () => {
    const stranger = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'x' };
    const names = await Promise.all(
      [
        client(EC2Client, stranger).send(new DescribeInstancesCommand({})),
        client(SSMClient, stranger).send(new SendCommandCommand({ DocumentName: 'd' })),
        client(SNSClient, stranger).send(new PublishCommand({ Message: 'm' })),
      ].map((sent: Promise<unknown>) => sent.catch((error: Error) => error.name)),
    );
    expect(names).toEqual(['AuthFailure', 'UnrecognizedClientException', 'InvalidClientTokenId']);
    expect(world.asked).toEqual([]);
  });

  it('refuses revoked credentials', async () => {
    const credentials = endpoint.issueCredentials(HOST);
    endpoint.revoke(credentials.accessKeyId);
    await expect(client(EC2Client, credentials).send(new DescribeInstancesCommand({}))).rejects.toMatchObject({
      name: 'AuthFailure',
    });
  });

  it('does not know parameters and operations that the SDK does not know, and remembers that the run is void', async () => {
    const { cloud } = cloudThatAnswers({ 'ec2:AttachVolume': () => ({}) });
    const form = 'Action=AttachVolume&Version=2016-11-15&VolumeId=v&InstanceId=i&Device=d&Force=true';
    await expect(sendRaw(new Endpoint(cloud), 'ec2', form)).rejects.toThrow(NotModelled);
    expect(cloud.failure?.message).toContain('Force');
    await expect(sendRaw(new Endpoint(cloud), 'ec2', 'Action=AttachWheels')).rejects.toThrow(
      'no operation AttachWheels',
    );
  });

  it('takes an answer with members that AWS does not give for a mistake of the model', async () => {
    const { cloud } = cloudThatAnswers({ 'ssm:SendCommand': () => ({ Command: { CommandID: 'c' } }) });
    await expect(sendRaw(new Endpoint(cloud), 'ssm', '{"DocumentName":"d"}')).rejects.toThrow('Command.CommandID');
  });

  it('does not model services without a wire protocol', async () => {
    const { cloud } = cloudThatAnswers({});
    await expect(sendRaw(new Endpoint(cloud), 's3', '')).rejects.toThrow(NotModelled);
  });
});

describe('the server', () => {
  it('listens on a Unix socket, and close ends requests that wait', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'wire-'));
    const socket = await EndpointServer.listen(endpoint, { path: join(folder, 'aws.sock') });
    let arrived = () => {};
    const asked = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    answers['ssm:SendCommand'] = () => {
      arrived();
      return new Promise(() => {});
    };
    const ended = new Promise((resolve) => {
      const sent = request(
        { socketPath: socket.address, method: 'POST', path: '/', headers: headersFor(endpoint, 'ssm') },
        resolve,
      );
      sent.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      sent.end('{"DocumentName":"d"}');
    });
    await asked;
    await socket.close();
    expect(await ended).toBe('ECONNRESET');
    rmSync(folder, { recursive: true });
  });
});
