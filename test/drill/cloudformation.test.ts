// biome-ignore-all lint/suspicious/noTemplateCurlyInString: it is CloudFormation's own syntax
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  App,
  aws_ec2 as ec2,
  aws_events as events,
  Fn,
  aws_iam as iam,
  aws_lambda as lambda,
  RemovalPolicy,
  Size,
  Stack,
  aws_stepfunctions as sfn,
  aws_sqs as sqs,
  aws_events_targets as targets,
} from 'aws-cdk-lib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { CloudFormation, readAssembly, type SynthesizedStack } from '../../drill/cloud/cloudformation.ts';
import { EventBridge } from '../../drill/cloud/events.ts';
import { Iam } from '../../drill/cloud/iam.ts';
import { AwsError, Cloud, NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import type { ResourceHandler, ResourceHandlers } from '../../drill/cloud/resource.ts';
import { Sqs } from '../../drill/cloud/sqs.ts';

interface Creation {
  readonly logicalId: string;
  readonly type: string;
  readonly properties: Shape;
  readonly assetPath: string | undefined;
}

function arnOf(type: string, logicalId: string): string {
  return `arn:aws:${type.split('::')[1]?.toLowerCase()}:us-east-1:123456789012:${logicalId}`;
}

/** Handlers that make nothing, but keep what they were asked. */
function recorder() {
  const created: Creation[] = [];
  const deleted: string[] = [];
  const updated: [previous: Shape, next: Shape][] = [];
  const handlerOf = (type: string): ResourceHandler => ({
    create: (logicalId, properties, { assetPath }) => {
      if (properties.Fails) throw new AwsError('ValidationError', 'it fails');
      created.push({ logicalId, type, properties, assetPath });
      return { ref: `ref-${logicalId}`, attributes: { Arn: arnOf(type, logicalId) } };
    },
    delete: ({ ref }) => {
      deleted.push(ref);
    },
  });
  const updatable: ResourceHandler = {
    ...handlerOf('Test::Updatable'),
    update: (_created, properties, previous) => {
      updated.push([previous, properties]);
    },
  };
  const handlers = (...types: string[]): ResourceHandlers => ({
    'Test::Thing': handlerOf('Test::Thing'),
    'Test::Updatable': updatable,
    ...Object.fromEntries(types.map((type) => [type, handlerOf(type)])),
  });
  return { created, deleted, updated, handlers };
}

function setUp() {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1 });
  const made = recorder();
  const cloudFormation = new CloudFormation(cloud, made.handlers(), {
    resolveSsmParameter: (name) => `value of ${name}`,
  });
  const deploy = (template: Shape, stack: Partial<SynthesizedStack> = {}) =>
    clock.run(
      cloudFormation.deployStack({
        name: 'Stack',
        environment: 'aws://unknown-account/unknown-region',
        parameters: {},
        assets: new Map(),
        template,
        ...stack,
      }),
    );
  const thing = (Properties: Shape, rest: Shape = {}) => ({ Type: 'Test::Thing', Properties, ...rest });
  /** What becomes of one property. */
  const resolved = async (value: Shape, template: Shape = {}) => {
    await deploy({ ...template, Resources: { ...template.Resources, Subject: thing({ value }) } });
    return made.created.find(({ logicalId }) => logicalId === 'Subject')?.properties.value;
  };
  return { ...made, clock, cloud, cloudFormation, deploy, thing, resolved };
}

describe('a CDK app', () => {
  let directory: string;

  beforeAll(() => {
    // CDK's own template rules take seconds to load, and are not what is tested here.
    vi.stubEnv('CDK_VALIDATION', 'false');
    directory = mkdtempSync(join(tmpdir(), 'cloudformation-test-'));
    const code = join(directory, 'code');
    mkdirSync(code);
    writeFileSync(join(code, 'index.js'), 'exports.handler = async () => {};');
    synthesize(join(directory, 'assembly'), code);
  });

  afterAll(() => {
    vi.unstubAllEnvs();
    rmSync(directory, { recursive: true, force: true });
  });

  async function deployed() {
    const clock = new VirtualClock();
    const cloud = new Cloud({ clock, seed: 1 });
    const made = recorder();
    const identities = new Iam(cloud);
    const queues = new Sqs(cloud, identities);
    const bus = new EventBridge(cloud, {
      mayInvoke: () => true,
      assume: (...request) => identities.assume(...request),
      queueUrl: (arn) => queues.urlOf(arn),
    });
    const handlers = {
      ...made.handlers(
        'AWS::EC2::LaunchTemplate',
        'AWS::EC2::Volume',
        'AWS::Lambda::Function',
        'AWS::Lambda::Permission',
        'AWS::StepFunctions::StateMachine',
      ),
      ...identities.handlers,
      ...queues.handlers,
      ...bus.handlers,
    };
    const resolveSsmParameter = (name: string) => (name.startsWith('/aws/service/ami') ? 'ami-1' : 'none');
    const cloudFormation = new CloudFormation(cloud, handlers, { resolveSsmParameter });
    const stacks = await clock.run(cloudFormation.deploy(join(directory, 'assembly')));
    const of = (type: string) => {
      const creation = made.created.find((candidate) => candidate.type === type);
      if (!creation) throw new Error(`no ${type} was created`);
      return creation;
    };
    return { stacks, identities, bus, of, clock, cloudFormation, ...made };
  }

  it('is deployed stack after stack, resource after resource', async () => {
    const { stacks, created } = await deployed();
    expect(stacks.map(({ name }) => name)).toEqual(['Data', 'Keeper']);
    const types = created.map(({ type }) => type);
    expect(types.indexOf('AWS::Lambda::Function')).toBeLessThan(types.indexOf('AWS::StepFunctions::StateMachine'));
  });

  it('gives a function its asset folder and its role', async () => {
    const { of, identities, clock } = await deployed();
    const { assetPath, properties } = of('AWS::Lambda::Function');
    expect(existsSync(join(assetPath ?? '', 'index.js'))).toBe(true);
    const caller = { roleArn: properties.Role, session: 'test' };
    const start = { action: 'states:StartExecution', resource: 'arn:aws:states:us-east-1:123456789012:stateMachine:m' };
    expect(await clock.run(Promise.resolve(identities.deny(caller, start)))).toBeUndefined();
  });

  it('resolves imports, images and instance profiles', async () => {
    const { of, identities } = await deployed();
    const { LaunchTemplateData: data } = of('AWS::EC2::LaunchTemplate').properties;
    expect(data.ImageId).toBe('ami-1');
    expect(Buffer.from(data.UserData, 'base64').toString()).toBe('#!/bin/sh\necho "$(date)"\n');
    expect(identities.roleOfInstanceProfile(data.IamInstanceProfile.Arn)).toContain(':role/Keeper-');
    const { VOLUME_ID } = of('AWS::Lambda::Function').properties.Environment.Variables;
    expect(VOLUME_ID).toBe(`ref-${of('AWS::EC2::Volume').logicalId}`);
  });

  it('leaves nothing but what is retained when it is destroyed', async () => {
    const { cloudFormation, clock, deleted, created, identities, bus } = await deployed();
    await expect(clock.run(cloudFormation.destroy('Data'))).rejects.toThrow('it is in use by Keeper');
    await clock.run(cloudFormation.destroy('Keeper'));
    await clock.run(cloudFormation.destroy('Data'));
    const kept = created.map(({ logicalId }) => `ref-${logicalId}`).filter((ref) => !deleted.includes(ref));
    expect(kept).toEqual([expect.stringMatching(/^ref-Volume/)]);
    expect(identities.unusedPermissions()).toEqual([]);
    expect(bus.rules).toEqual([]);
  });
});

function synthesize(outdir: string, code: string): void {
  const app = new App({ outdir, analyticsReporting: false });
  const data = new Stack(app, 'Data');
  const volume = new ec2.Volume(data, 'Volume', {
    availabilityZone: Fn.select(0, Fn.getAzs()),
    size: Size.gibibytes(20),
    removalPolicy: RemovalPolicy.RETAIN,
  });
  const keeper = new Stack(app, 'Keeper');
  const hostRole = new iam.Role(keeper, 'HostRole', { assumedBy: new iam.ServicePrincipal('ec2.amazonaws.com') });
  new ec2.LaunchTemplate(keeper, 'Template', {
    machineImage: ec2.MachineImage.latestAmazonLinux2023({ cpuType: ec2.AmazonLinuxCpuType.ARM_64 }),
    role: hostRole,
    userData: ec2.UserData.custom('#!/bin/sh\necho "$(date)"\n'),
  });
  const onNotice = new lambda.Function(keeper, 'OnNotice', {
    runtime: lambda.Runtime.NODEJS_24_X,
    handler: 'index.handler',
    code: lambda.Code.fromAsset(code),
    environment: { VOLUME_ID: volume.volumeId },
  });
  onNotice.addToRolePolicy(new iam.PolicyStatement({ actions: ['states:StartExecution'], resources: ['*'] }));
  new sfn.CfnStateMachine(keeper, 'Relocate', {
    roleArn: hostRole.roleArn,
    definitionString: `{"function":"${onNotice.functionArn}"}`,
  });
  new events.Rule(keeper, 'Notice', {
    eventPattern: { source: ['aws.ec2'], detailType: ['EC2 Spot Instance Interruption Warning'] },
    targets: [new targets.LambdaFunction(onNotice, { deadLetterQueue: new sqs.Queue(keeper, 'DeadLetters') })],
  });
  app.synth();
}

describe('intrinsic functions', () => {
  const parameters = { Parameters: { Name: { Type: 'String', Default: 'keeper' } } };
  const conditions = {
    ...parameters,
    Conditions: {
      Yes: { 'Fn::Equals': [{ Ref: 'Name' }, 'keeper'] },
      No: { 'Fn::Not': [{ Condition: 'Yes' }] },
      Both: { 'Fn::And': [{ Condition: 'Yes' }, { Condition: 'No' }] },
      Either: { 'Fn::Or': [{ Condition: 'No' }, { Condition: 'Yes' }] },
    },
  };
  const other = { Resources: { Other: { Type: 'Test::Thing', Properties: {} } } };

  it.each<[string, Shape, Shape, Shape?]>([
    ['Ref of a parameter', { Ref: 'Name' }, 'keeper', parameters],
    ['Ref of a resource', { Ref: 'Other' }, 'ref-Other', other],
    ['Ref of a pseudo parameter', { Ref: 'AWS::Region' }, 'us-east-1'],
    ['AWS::NoValue', [{ a: { Ref: 'AWS::NoValue' } }, { Ref: 'AWS::NoValue' }], [{}]],
    ['Fn::GetAtt', { 'Fn::GetAtt': ['Other', 'Arn'] }, arnOf('Test::Thing', 'Other'), other],
    ['Fn::Join', { 'Fn::Join': ['-', ['a', { Ref: 'Name' }, 3]] }, 'a-keeper-3', parameters],
    ['Fn::Select and Fn::Split', { 'Fn::Select': ['1', { 'Fn::Split': ['/', 'a/b'] }] }, 'b'],
    [
      'Fn::Sub',
      { 'Fn::Sub': ['${Name}/${x}/${Other.Arn}/${!x}', { x: { Ref: 'Name' } }] },
      `keeper/keeper/${arnOf('Test::Thing', 'Other')}/\${x}`,
      { ...parameters, ...other },
    ],
    ['Fn::Base64', { 'Fn::Base64': 'é' }, 'w6k='],
    [
      'Fn::FindInMap',
      { 'Fn::FindInMap': ['M', { Ref: 'AWS::Region' }, 'b'] },
      'c',
      { Mappings: { M: { 'us-east-1': { b: 'c' } } } },
    ],
    ['Fn::GetAZs', { 'Fn::Select': [1, { 'Fn::GetAZs': '' }] }, 'us-east-1b'],
    ['Fn::If, Fn::Equals', { 'Fn::If': ['Yes', 1, 2] }, 1, conditions],
    ['Fn::Not', { 'Fn::If': ['No', 1, 2] }, 2, conditions],
    ['Fn::And', { 'Fn::If': ['Both', 1, 2] }, 2, conditions],
    ['Fn::Or', { 'Fn::If': ['Either', 1, 2] }, 1, conditions],
    [
      'an SSM parameter',
      { Ref: 'Image' },
      'value of /image',
      { Parameters: { Image: { Type: 'AWS::SSM::Parameter::Value<String>', Default: '/image' } } },
    ],
  ])('%s', async (_name, value, expected, template) => {
    const { resolved } = setUp();
    expect(await resolved(value, template)).toEqual(expected);
  });

  it.each<[string, Shape]>([
    ['Fn::Cidr', { 'Fn::Cidr': ['10.0.0.0/16', 2, 8] }],
    ['an attribute that the type does not give', { 'Fn::GetAtt': ['Other', 'Colour'] }],
    ['a dynamic reference', '{{resolve:ssm:/name}}'],
    ['an unknown pseudo parameter', { Ref: 'AWS::NotificationARNs' }],
  ])('%s is not modelled', async (_name, value) => {
    const { resolved } = setUp();
    await expect(resolved(value, other)).rejects.toThrow(NotModelled);
  });

  it('refer to resources only in the branch that is taken', async () => {
    const { resolved } = setUp();
    const absent = { Absent: { Type: 'Test::Thing', Condition: 'No' } };
    const value = { 'Fn::If': ['Yes', 'present', { Ref: 'Absent' }] };
    expect(await resolved(value, { ...conditions, Resources: absent })).toBe('present');
  });
});

describe('a template', () => {
  it('is carried out in the order of its references and dependencies', async () => {
    const { deploy, thing, created } = setUp();
    const Resources = {
      A: thing({ b: { 'Fn::Sub': '${B.Arn}' } }),
      B: thing({}, { DependsOn: 'C' }),
      C: thing({}),
      D: thing({}, { Condition: 'Never' }),
    };
    await deploy({ Resources, Conditions: { Never: { 'Fn::Equals': ['a', 'b'] } } });
    expect(created.map(({ logicalId }) => logicalId)).toEqual(['C', 'B', 'A']);
  });

  it('with a circle is refused', async () => {
    const { deploy, thing } = setUp();
    const Resources = { A: thing({ b: { Ref: 'B' } }), B: thing({ a: { Ref: 'A' } }) };
    await expect(deploy({ Resources })).rejects.toThrow('Circular dependency between resources: [A, B]');
  });

  it.each<[string, Shape]>([
    ['a resource type that nothing handles', { Resources: { A: { Type: 'AWS::RDS::DBInstance' } } }],
    ['a transform', { Transform: 'AWS::Serverless-2016-10-31', Resources: {} }],
    ['rules of its own', { Rules: { Mine: {} }, Resources: {} }],
    ['a creation policy', { Resources: { A: { Type: 'Test::Thing', CreationPolicy: {} } } }],
    ['a snapshot at deletion', { Resources: { A: { Type: 'Test::Thing', DeletionPolicy: 'Snapshot' } } }],
  ])('with %s is not modelled', async (_name, template) => {
    const { deploy } = setUp();
    await expect(deploy(template)).rejects.toThrow(NotModelled);
  });

  it('made for another region is not modelled', async () => {
    const { deploy } = setUp();
    await expect(deploy({ Resources: {} }, { environment: 'aws://123456789012/eu-west-1' })).rejects.toThrow(
      NotModelled,
    );
  });

  it('of CDK may carry its metadata and its bootstrap check', async () => {
    const { deploy, created } = setUp();
    const Parameters = {
      BootstrapVersion: { Type: 'AWS::SSM::Parameter::Value<String>', Default: '/cdk-bootstrap/x' },
    };
    const Resources = { CDKMetadata: { Type: 'AWS::CDK::Metadata', Properties: { Analytics: 'v2:…' } } };
    await deploy({ Resources, Parameters, Rules: { CheckBootstrapVersion: {} } });
    expect(created).toEqual([]);
  });

  it('gives outputs, also to other stacks', async () => {
    const { deploy, thing, created } = setUp();
    const Outputs = {
      Arn: { Value: { 'Fn::GetAtt': ['A', 'Arn'] }, Export: { Name: { 'Fn::Sub': '${AWS::StackName}:A' } } },
    };
    const { outputs } = await deploy({ Resources: { A: thing({}) }, Outputs });
    expect(outputs).toEqual({ Arn: arnOf('Test::Thing', 'A') });
    await deploy({ Resources: { B: thing({ a: { 'Fn::ImportValue': 'Stack:A' } }) } }, { name: 'Second' });
    expect(created.at(-1)?.properties).toEqual({ a: arnOf('Test::Thing', 'A') });
    await expect(
      deploy({ Resources: { C: thing({ a: { 'Fn::ImportValue': 'Stack:Z' } }) } }, { name: 'Third' }),
    ).rejects.toThrow('No export named Stack:Z found.');
  });
});

describe('a stack', () => {
  it('that fails is rolled back, except for what is to be retained', async () => {
    const { deploy, thing, deleted, cloudFormation } = setUp();
    const Resources = {
      A: thing({}),
      B: thing({}, { DeletionPolicy: 'Retain' }),
      C: thing({}, { DeletionPolicy: 'RetainExceptOnCreate' }),
      D: thing({ Fails: true }),
    };
    await expect(deploy({ Resources })).rejects.toThrow('Stack/D: it fails');
    expect(deleted).toEqual(['ref-C', 'ref-A']);
    await expect(cloudFormation.destroy('Stack')).rejects.toThrow('does not exist');
  });

  it('is destroyed in reverse order, and keeps what is to be retained', async () => {
    const { deploy, thing, deleted, clock, cloudFormation } = setUp();
    const Resources = { A: thing({}), B: thing({}, { DeletionPolicy: 'Retain' }), C: thing({}) };
    await deploy({ Resources });
    await clock.run(cloudFormation.destroy('Stack'));
    expect(deleted).toEqual(['ref-C', 'ref-A']);
  });

  it('is updated in place: what is new is created, what is gone deleted, what is unchanged left alone', async () => {
    const { deploy, thing, created, deleted, updated } = setUp();
    const changing = (value: number) => ({ Type: 'Test::Updatable', Properties: { value } });
    await deploy({ Resources: { Same: thing({}), Gone: thing({}), Changing: changing(1) } });
    await deploy({ Resources: { Same: thing({}), New: thing({}), Changing: changing(2) } });
    expect(created.map(({ logicalId }) => logicalId)).toEqual(['Same', 'Gone', 'Changing', 'New']);
    expect(updated).toEqual([[{ value: 1 }, { value: 2 }]]);
    expect(deleted).toEqual(['ref-Gone']);
  });

  it('does not model a change that would replace a resource', async () => {
    const { deploy, thing } = setUp();
    await deploy({ Resources: { A: thing({ value: 1 }) } });
    await expect(deploy({ Resources: { A: thing({ value: 2 }) } })).rejects.toThrow(NotModelled);
  });
});

describe('an assembly', () => {
  it('with docker images is not modelled', () => {
    const directory = mkdtempSync(join(tmpdir(), 'cloudformation-test-'));
    const artifacts = { assets: { type: 'cdk:asset-manifest', properties: { file: 'assets.json' } } };
    writeFileSync(join(directory, 'manifest.json'), JSON.stringify({ artifacts }));
    writeFileSync(join(directory, 'assets.json'), JSON.stringify({ files: {}, dockerImages: { image: {} } }));
    try {
      expect(() => readAssembly(directory)).toThrow(NotModelled);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
