import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { CloudFormation } from '../../drill/cloud/cloudformation.ts';
import { CloudWatch } from '../../drill/cloud/cloudwatch.ts';
import { Iam } from '../../drill/cloud/iam.ts';
import { Cloud, NotModelled, type ServiceName, type Shape } from '../../drill/cloud/kernel.ts';
import type { StackContext } from '../../drill/cloud/resource.ts';
import { S3 } from '../../drill/cloud/s3.ts';
import { StepFunctions } from '../../drill/cloud/states/step-functions.ts';
import { wireService } from '../../drill/cloud/wire/services.ts';

const STACK: StackContext = { stackName: 'Keeper', physicalName: (id) => `Keeper-${id}`, assetPath: undefined };
const BUCKET = 'keeper-evidence';
const EVERYTHING = { Effect: 'Allow', Action: 's3:*', Resource: '*' };

/** What CDK writes for a private bucket with versions and a rule that old ones go. */
const PRIVATE = {
  BucketEncryption: {
    ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } }],
  },
  LifecycleConfiguration: {
    Rules: [
      {
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
        ExpirationInDays: 400,
        NoncurrentVersionExpiration: { NoncurrentDays: 30 },
        Status: 'Enabled',
      },
    ],
  },
  OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
  PublicAccessBlockConfiguration: {
    BlockPublicAcls: true,
    BlockPublicPolicy: true,
    IgnorePublicAcls: true,
    RestrictPublicBuckets: true,
  },
  VersioningConfiguration: { Status: 'Enabled' },
  Tags: [{ Key: 'keeper:database', Value: 'lighthouse' }],
};

/** What CDK writes for `enforceSSL` and `minimumTLSVersion`. */
const ENCRYPTED_CONNECTIONS_ONLY = [
  { Bool: { 'aws:SecureTransport': 'false' } },
  { NumericLessThan: { 's3:TlsVersion': 1.2 } },
].map((Condition) => ({
  Effect: 'Deny',
  Principal: { AWS: '*' },
  Action: 's3:*',
  Resource: [`arn:aws:s3:::${BUCKET}`, `arn:aws:s3:::${BUCKET}/*`],
  Condition,
}));

const policy = (...Statement: Shape[]) => ({ Version: '2012-10-17', Statement });

async function setUp(statements: readonly Shape[] = [EVERYTHING]) {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1 });
  cloud.latencyScale = 0;
  const iam = new Iam(cloud);
  cloud.authorizer = iam;
  const s3 = new S3(cloud, iam);
  const cloudWatch = new CloudWatch(cloud);
  const states = new StepFunctions(cloud);
  cloud.register(states);
  const handlers = { ...iam.handlers, ...s3.handlers, ...states.handlers };
  const create = (type: string, logicalId: string, properties: Shape = {}) =>
    clock.run((async () => handlers[type]?.create(logicalId, properties, STACK))());
  const role = await create('AWS::IAM::Role', 'Role', {
    AssumeRolePolicyDocument: policy({
      Effect: 'Allow',
      Action: 'sts:AssumeRole',
      Principal: { Service: 'states.amazonaws.com' },
    }),
    Policies: [{ PolicyName: 'Policy', PolicyDocument: policy(...statements) }],
  });
  const roleArn = role?.attributes['Arn'] ?? '';
  const call = (operation: string, input: Shape, service: ServiceName = 's3', caller = { roleArn, session: 'test' }) =>
    clock.run(cloud.call({ service, operation, input, caller }));
  const errorOf = (operation: string, input: Shape) =>
    call(operation, input).then(
      () => 'none',
      (error: Error) => error.name,
    );
  let machines = 0;
  /** Runs one task of a workflow under the role. */
  const task = async (api: string, Arguments: Shape): Promise<Shape> => {
    const Resource = `arn:aws:states:::aws-sdk:${api}`;
    const definition = {
      QueryLanguage: 'JSONata',
      StartAt: 'Task',
      States: { Task: { Type: 'Task', Resource, Arguments, End: true } },
    };
    const machine = await create('AWS::StepFunctions::StateMachine', `Machine${machines++}`, {
      RoleArn: roleArn,
      StateMachineType: 'STANDARD',
      DefinitionString: JSON.stringify(definition),
    });
    const start = { stateMachineArn: machine?.ref, input: '{"ok": true, "at": "2026-01-05T02:00:00Z"}' };
    const { executionArn } = await call('StartExecution', start, 'states', iam.administrator);
    await clock.run(states.whenClosed(executionArn));
    return call('DescribeExecution', { executionArn }, 'states', iam.administrator);
  };
  return { clock, cloud, iam, s3, cloudWatch, handlers, create, call, errorOf, task };
}

async function withBucket(statements?: readonly Shape[]) {
  const world = await setUp(statements);
  const bucket = await world.create('AWS::S3::Bucket', 'Evidence', PRIVATE);
  await world.create('AWS::S3::BucketPolicy', 'EvidencePolicy', {
    Bucket: bucket?.ref,
    PolicyDocument: policy(...ENCRYPTED_CONNECTIONS_ONLY),
  });
  return { ...world, bucket };
}

describe('a bucket', () => {
  it('keeps what is put into it, the newest under each key', async () => {
    const { bucket, clock, call, s3 } = await withBucket();
    expect(bucket).toMatchObject({ ref: BUCKET, attributes: { Arn: `arn:aws:s3:::${BUCKET}` } });
    const put = { Bucket: BUCKET, Key: 'evidence/a.json', ContentType: 'application/json' };
    const first = await call('PutObject', { ...put, Body: '{"ok":false}' });
    expect(first).toMatchObject({ ETag: expect.stringMatching(/^"[0-9a-f]{32}"$/), ServerSideEncryption: 'AES256' });
    await clock.pass(1000);
    const second = await call('PutObject', { ...put, Body: new TextEncoder().encode('{"ok":true}') });
    expect(second.VersionId).not.toBe(first.VersionId);
    expect(s3.objects).toEqual([
      {
        at: clock.now(),
        bucket: BUCKET,
        key: 'evidence/a.json',
        body: '{"ok":true}',
        contentType: 'application/json',
      },
    ]);
    const { Body, ContentType } = await call('GetObject', { Bucket: BUCKET, Key: 'evidence/a.json' });
    expect([new TextDecoder().decode(Body), ContentType]).toEqual(['{"ok":true}', 'application/json']);
  });

  it('does not exist, or lacks the key', async () => {
    const { errorOf } = await withBucket();
    expect(await errorOf('PutObject', { Bucket: 'other', Key: 'a', Body: '' })).toBe('NoSuchBucket');
    expect(await errorOf('GetObject', { Bucket: BUCKET, Key: 'a' })).toBe('NoSuchKey');
  });

  it('tells nobody who may not list it that something is not there, and that is no denial of the request', async () => {
    const read = { Effect: 'Allow', Action: 's3:GetObject', Resource: `arn:aws:s3:::${BUCKET}/*` };
    const { cloud, errorOf } = await withBucket([read]);
    expect(await errorOf('GetObject', { Bucket: BUCKET, Key: 'a' })).toBe('AccessDenied');
    expect(cloud.denied).toEqual([]);
  });

  it('takes objects only from whom IAM allows it, under the keys that it names', async () => {
    const write = { Effect: 'Allow', Action: 's3:PutObject', Resource: `arn:aws:s3:::${BUCKET}/evidence/*` };
    const { cloud, errorOf } = await withBucket([write]);
    expect(await errorOf('PutObject', { Bucket: BUCKET, Key: 'evidence/a', Body: '' })).toBe('none');
    expect(await errorOf('PutObject', { Bucket: BUCKET, Key: 'a', Body: '' })).toBe('AccessDenied');
    expect(cloud.denied).toMatchObject([{ action: 's3:PutObject', resource: `arn:aws:s3:::${BUCKET}/a` }]);
  });

  it('obeys its own policy too', async () => {
    const { create, errorOf } = await setUp();
    await create('AWS::S3::Bucket', 'Evidence', PRIVATE);
    const [deny] = ENCRYPTED_CONNECTIONS_ONLY;
    const PolicyDocument = policy({ ...deny, Condition: { Bool: { 'aws:SecureTransport': 'true' } } });
    await create('AWS::S3::BucketPolicy', 'Policy', { Bucket: BUCKET, PolicyDocument });
    expect(await errorOf('PutObject', { Bucket: BUCKET, Key: 'a', Body: '' })).toBe('AccessDenied');
  });

  it.each<[string, Shape]>([
    ['a key of KMS', { ServerSideEncryption: 'aws:kms' }],
    ['metadata', { Metadata: { a: 'b' } }],
  ])('does not model %s', async (_, members) => {
    const { errorOf } = await withBucket();
    expect(await errorOf('PutObject', { Bucket: BUCKET, Key: 'a', Body: '', ...members })).toBe('NotModelled');
  });

  it('is not reached over the wire', () => {
    expect(() => wireService('s3')).toThrow(NotModelled);
  });
});

describe('CloudFormation', () => {
  it.each<[string, Shape]>([
    [
      'a key of KMS',
      {
        BucketEncryption: {
          ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' } }],
        },
      },
    ],
    ['access control lists', { OwnershipControls: { Rules: [{ ObjectOwnership: 'ObjectWriter' }] } }],
    ['objects that soon expire', { LifecycleConfiguration: { Rules: [{ ExpirationInDays: 1, Status: 'Enabled' }] } }],
    ['notifications', { NotificationConfiguration: {} }],
  ])('does not make a bucket with %s', async (_, properties) => {
    const { create } = await setUp();
    await expect(create('AWS::S3::Bucket', 'Evidence', properties)).rejects.toThrow(NotModelled);
  });

  const stackOf = (bucket: Shape) => ({
    name: 'Keeper',
    environment: 'aws://unknown-account/unknown-region',
    parameters: {},
    assets: new Map<string, string>(),
    template: { Resources: { Evidence: { Type: 'AWS::S3::Bucket', Properties: PRIVATE, ...bucket } } },
  });

  it('deletes an empty bucket only', async () => {
    const { clock, cloud, handlers, call, s3 } = await setUp();
    const formation = new CloudFormation(cloud, handlers, { resolveSsmParameter: () => '' });
    await clock.run(formation.deployStack(stackOf({})));
    await call('PutObject', { Bucket: BUCKET, Key: 'a', Body: 'kept' });
    await expect(clock.run(formation.destroy('Keeper'))).rejects.toThrow('The bucket you tried to delete is not empty');
    expect(s3.objects).toHaveLength(1);
  });

  it('leaves a retained bucket, with what is in it, and gives the next one another name', async () => {
    const { clock, cloud, handlers, call, s3 } = await setUp();
    const formation = new CloudFormation(cloud, handlers, { resolveSsmParameter: () => '' });
    const source = stackOf({ DeletionPolicy: 'Retain' });
    await clock.run(formation.deployStack(source));
    await call('PutObject', { Bucket: BUCKET, Key: 'a', Body: 'kept' });
    await clock.run(formation.destroy('Keeper'));
    expect(s3.objects).toMatchObject([{ body: 'kept' }]);
    const again = await clock.run(formation.deployStack(source));
    expect(again.resources.get('Evidence')?.ref).toBe(`${BUCKET}-2`);
  });
});

describe('a workflow', () => {
  it.each<[string, Shape, string]>([
    ['an object as its JSON text', { ok: '{% $states.input.ok %}' }, '{"ok":true}'],
    ['a string as a JSON string, with its quotation marks', '{% $string($states.input.ok) %}', '"true"'],
  ])('stores %s', async (_, Body, stored) => {
    const { s3, task } = await withBucket();
    const Arguments = { Bucket: BUCKET, Key: 'a.json', ContentType: 'application/json', Body };
    const { status, output } = await task('s3:putObject', Arguments);
    expect([status, JSON.parse(output).ServerSideEncryption]).toEqual(['SUCCEEDED', 'AES256']);
    expect(s3.objects).toMatchObject([{ key: 'a.json', body: stored }]);
    expect(JSON.parse((await task('s3:getObject', { Bucket: BUCKET, Key: 'a.json' })).output)).toMatchObject({
      Body: stored,
    });
  });

  it('sees the exceptions of S3 under their names', async () => {
    const write = { Effect: 'Allow', Action: 's3:PutObject', Resource: ['arn:aws:s3:::other/*'] };
    const { task } = await withBucket([write]);
    expect((await task('s3:putObject', { Bucket: 'other', Key: 'a', Body: {} })).error).toBe(
      'S3.NoSuchBucketException',
    );
    expect((await task('s3:putObject', { Bucket: BUCKET, Key: 'a', Body: {} })).error).toBe('S3.S3Exception');
  });

  it('puts metrics, with instants as ISO 8601', async () => {
    const put = { Effect: 'Allow', Action: 'cloudwatch:PutMetricData', Resource: '*' };
    const { cloudWatch, task } = await setUp([put]);
    const MetricData = `{% [
      { "MetricName": "Verified", "Value": $states.input.ok ? 1 : 0, "Unit": "Count", "Timestamp": $states.input.at,
        "Dimensions": [{ "Name": "Database", "Value": "lighthouse" }] }
    ] %}`;
    const { status } = await task('cloudwatch:putMetricData', { Namespace: 'Keeper', MetricData });
    expect(status).toBe('SUCCEEDED');
    expect(cloudWatch.metrics).toEqual([
      {
        at: Date.parse('2026-01-05T02:00:00Z'),
        namespace: 'Keeper',
        metricName: 'Verified',
        dimensions: { Database: 'lighthouse' },
        value: 1,
        unit: 'Count',
      },
    ]);
    for (const bad of [{ Value: 1, Timestamp: 'yesterday' }, { Value: null }, { Value: '1' }]) {
      const Arguments = { Namespace: 'Keeper', MetricData: [{ MetricName: 'Verified', ...bad }] };
      const { error } = await task('cloudwatch:putMetricData', Arguments);
      expect(error).toBe('CloudWatch.InvalidParameterValueException');
    }
    expect(cloudWatch.metrics).toHaveLength(1);
  });
});
