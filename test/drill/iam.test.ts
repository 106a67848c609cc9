import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { Iam } from '../../drill/cloud/iam.ts';
import { type Authorization, Cloud, NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import type { StackContext } from '../../drill/cloud/resource.ts';

const ACCOUNT = '123456789012';
const ROLE = `arn:aws:iam::${ACCOUNT}:role/Stack-Role`;
const STACK: StackContext = { stackName: 'Stack', physicalName: (id) => `Stack-${id}`, assetPath: undefined };
const volume = (id: string) => `arn:aws:ec2:us-east-1:${ACCOUNT}:volume/vol-${id.padStart(17, '0')}`;
const trusting = (service: string, Condition?: Shape) => ({
  Version: '2012-10-17',
  Statement: [
    { Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: service }, ...(Condition && { Condition }) },
  ],
});

const ATTACH_OWN = {
  Sid: 'AttachOwn',
  Effect: 'Allow',
  Action: ['ec2:AttachVolume', 'ec2:DetachVolume'],
  Resource: volume('*').replace(/vol-.*/, '*'),
  Condition: { StringEquals: { 'aws:ResourceTag/keeper:database': 'lighthouse' } },
};

async function setUp(statements: readonly Shape[], role: Shape = {}) {
  const clock = new VirtualClock();
  const iam = new Iam(new Cloud({ clock, seed: 1 }));
  const create = async (type: string, logicalId: string, properties: Shape) => {
    const handler = iam.handlers[type];
    if (!handler) throw new Error(type);
    return clock.run(Promise.resolve(handler.create(logicalId, properties, STACK)));
  };
  await create('AWS::IAM::Role', 'Role', { AssumeRolePolicyDocument: trusting('lambda.amazonaws.com'), ...role });
  if (statements.length > 0) {
    const PolicyDocument = { Version: '2012-10-17', Statement: statements };
    await create('AWS::IAM::Policy', 'Policy', { PolicyName: 'Policy', PolicyDocument, Roles: ['Stack-Role'] });
  }
  const deny = (authorization: Authorization, caller = { roleArn: ROLE, session: 's' }) =>
    clock.run(Promise.resolve(iam.deny(caller, authorization)));
  return { iam, clock, create, deny };
}

const attach = (database: string, id = '1'): Authorization => ({
  action: 'ec2:AttachVolume',
  resource: volume(id),
  context: { 'aws:ResourceTag/keeper:database': database },
});

describe('permissions of a role', () => {
  it('allow what a policy allows, on the tags that it names', async () => {
    const { deny } = await setUp([ATTACH_OWN]);
    expect(await deny(attach('lighthouse'))).toBeUndefined();
  });

  it('deny another tag, and say which condition failed', async () => {
    const { deny } = await setUp([ATTACH_OWN]);
    expect(await deny(attach('harbour'))).toBe(
      'no identity-based policy allows the ec2:AttachVolume action (conditions not met: aws:ResourceTag/keeper:database)',
    );
  });

  it('tell two volumes of one policy apart, whatever their random ids are', async () => {
    const { deny } = await setUp([{ ...ATTACH_OWN, Resource: volume('a1') }]);
    expect(await deny(attach('lighthouse', 'a1'))).toBeUndefined();
    expect(await deny(attach('lighthouse', 'b2'))).toContain('no identity-based policy');
    const other = await setUp([{ ...ATTACH_OWN, Resource: volume('b2') }]);
    expect(await other.deny(attach('lighthouse', 'a1'))).toContain('no identity-based policy');
    expect(await other.deny(attach('lighthouse', 'b2'))).toBeUndefined();
  });

  it('honour a pattern for part of an id', async () => {
    const { deny } = await setUp([{ ...ATTACH_OWN, Resource: volume('*').replace(/vol-0*\*/, 'vol-0a*') }]);
    expect(await deny(attach('lighthouse', '0a000000000000001'))).toBeUndefined();
    expect(await deny(attach('lighthouse', '0b000000000000001'))).toContain('no identity-based policy');
  });

  it('lose to an explicit deny', async () => {
    const { deny } = await setUp([ATTACH_OWN, { Effect: 'Deny', Action: 'ec2:*', Resource: volume('bad') }]);
    expect(await deny(attach('lighthouse', 'bad'))).toBe('of an explicit deny in an identity-based policy');
  });

  it('come from inline and AWS managed policies too', async () => {
    const { deny } = await setUp([], {
      ManagedPolicyArns: ['arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole'],
      Policies: [{ PolicyName: 'Inline', PolicyDocument: { Version: '2012-10-17', Statement: [ATTACH_OWN] } }],
    });
    expect(await deny(attach('lighthouse'))).toBeUndefined();
    const logGroup = `arn:aws:logs:us-east-1:${ACCOUNT}:log-group:g`;
    expect(await deny({ action: 'logs:CreateLogGroup', resource: logGroup })).toBeUndefined();
  });

  it('change with the policies that are attached', async () => {
    const { iam, deny } = await setUp([ATTACH_OWN]);
    expect(await deny(attach('lighthouse'))).toBeUndefined();
    await iam.handlers['AWS::IAM::Policy']?.delete({ ref: 'Policy', attributes: {} });
    expect(await deny(attach('lighthouse'))).toContain('no identity-based policy');
  });

  it('see the time of the clock', async () => {
    const until = { DateLessThan: { 'aws:CurrentTime': '2026-01-05T12:00:10Z' } };
    const { clock, deny } = await setUp([{ ...ATTACH_OWN, Condition: until }]);
    expect(await deny(attach('lighthouse'))).toBeUndefined();
    await clock.pass(20_000);
    expect(await deny(attach('lighthouse'))).toContain('aws:CurrentTime');
  });

  it('are not needed by the administrator', async () => {
    const { iam, deny } = await setUp([]);
    expect(await deny(attach('lighthouse'), iam.administrator)).toBeUndefined();
  });

  it('do not exist for a role that does not exist', async () => {
    const { deny } = await setUp([]);
    const caller = { roleArn: `arn:aws:iam::${ACCOUNT}:role/none`, session: 's' };
    expect(await deny(attach('lighthouse'), caller)).toContain('does not exist');
  });
});

describe('errors of the model', () => {
  it.each<[string, Authorization]>([
    ['an action that IAM does not know', { action: 'ec2:AtachVolume', resource: volume('1') }],
    [
      'a resource of a type that the action does not have',
      { ...attach('l'), resource: `arn:aws:sns:us-east-1:${ACCOUNT}:t` },
    ],
    ['a condition key that the action does not have', { ...attach('l'), context: { 'ssm:resourceTag/a': 'b' } }],
  ])('%s is not modelled', async (_name, authorization) => {
    const { deny } = await setUp([ATTACH_OWN]);
    await expect(deny(authorization)).rejects.toThrow(NotModelled);
  });

  it.each<[string, Shape]>([
    ['an action that does not exist', { ...ATTACH_OWN, Action: 'ec2:AtachVolume' }],
    ['a condition key that does not exist', { ...ATTACH_OWN, Condition: { StringEquals: { 'ec2:Colour': 'red' } } }],
    ['NotAction', { Effect: 'Allow', NotAction: 'ec2:*', Resource: '*' }],
  ])('a policy with %s is not modelled', async (_name, statement) => {
    await expect(setUp([statement])).rejects.toThrow(NotModelled);
  });

  it('a managed policy that is not in the table is not modelled', async () => {
    const role = { ManagedPolicyArns: ['arn:aws:iam::aws:policy/AdministratorAccess'] };
    await expect(setUp([], role)).rejects.toThrow('AdministratorAccess');
  });
});

describe('trust', () => {
  it('lets only the trusted service take a role', async () => {
    const { iam, clock } = await setUp([]);
    await clock.run(iam.assume(ROLE, 'lambda.amazonaws.com'));
    await expect(clock.run(iam.assume(ROLE, 'ec2.amazonaws.com'))).rejects.toThrow(
      'User: ec2.amazonaws.com is not authorized to perform: sts:AssumeRole',
    );
  });

  it('honours conditions on the source', async () => {
    const ofMachine = { ArnLike: { 'aws:SourceArn': `arn:aws:states:us-east-1:${ACCOUNT}:stateMachine:*` } };
    const { iam, clock } = await setUp([], {
      AssumeRolePolicyDocument: trusting('states.amazonaws.com', ofMachine),
    });
    const from = (resource: string) =>
      clock.run(
        iam.assume(ROLE, 'states.amazonaws.com', {
          'aws:SourceArn': `arn:aws:states:us-east-1:${ACCOUNT}:${resource}`,
        }),
      );
    await from('stateMachine:relocate');
    await expect(from('activity:relocate')).rejects.toThrow('aws:SourceArn');
  });

  it('is what an instance profile carries', async () => {
    const { iam, create } = await setUp([]);
    const { ref, attributes } = await create('AWS::IAM::InstanceProfile', 'Profile', { Roles: ['Stack-Role'] });
    expect(iam.roleOfInstanceProfile(ref)).toBe(ROLE);
    expect(iam.roleOfInstanceProfile(attributes.Arn ?? '')).toBe(ROLE);
    expect(() => iam.roleOfInstanceProfile('none')).toThrow('Invalid IAM Instance Profile name');
  });
});

describe('resource policies', () => {
  const queue = `arn:aws:sqs:us-east-1:${ACCOUNT}:dead-letters`;
  const rule = `arn:aws:events:us-east-1:${ACCOUNT}:rule/spot`;
  const events = { roleArn: 'events.amazonaws.com', session: 'spot', context: { 'aws:SourceArn': rule } };
  const send: Authorization = { action: 'sqs:SendMessage', resource: queue };

  it('govern what an AWS service may do', async () => {
    const { iam, deny } = await setUp([]);
    expect(await deny(send, events)).toBe('no resource-based policy allows the sqs:SendMessage action');
    const allow = {
      Effect: 'Allow',
      Principal: { Service: 'events.amazonaws.com' },
      Action: 'sqs:SendMessage',
      Resource: queue,
      Condition: { ArnEquals: { 'aws:SourceArn': rule } },
    };
    iam.setResourcePolicy(queue, { Version: '2012-10-17', Statement: [allow] });
    expect(await deny(send, events)).toBeUndefined();
    const another = { ...events, context: { 'aws:SourceArn': `${rule}-other` } };
    expect(await deny(send, another)).toBe(
      'no resource-based policy allows the sqs:SendMessage action (conditions not met: aws:SourceArn)',
    );
  });

  it('deny roles, too', async () => {
    const { iam, deny } = await setUp([{ Effect: 'Allow', Action: 'sqs:SendMessage', Resource: queue }]);
    expect(await deny(send)).toBeUndefined();
    const nobody = { Effect: 'Deny', Principal: { AWS: '*' }, Action: 'sqs:*', Resource: queue };
    iam.setResourcePolicy(queue, { Version: '2012-10-17', Statement: [nobody] });
    expect(await deny(send)).toBe('of an explicit deny in a resource-based policy');
  });
});

describe('unused permissions', () => {
  it('are those that no allowed request has used', async () => {
    const { iam, deny } = await setUp([ATTACH_OWN, { Effect: 'Allow', Action: 'ec2:Describe*', Resource: '*' }]);
    await deny(attach('lighthouse'));
    await deny({ action: 'ec2:DetachVolume', resource: volume('1') });
    expect(iam.unusedPermissions()).toEqual([
      { role: 'Stack-Role', action: 'ec2:DetachVolume', resource: ATTACH_OWN.Resource, sid: 'AttachOwn' },
      { role: 'Stack-Role', action: 'ec2:Describe*', resource: '*' },
    ]);
    await deny({ action: 'ec2:DescribeInstances', resource: '*' });
    expect(iam.unusedPermissions().map(({ action }) => action)).toEqual(['ec2:DetachVolume']);
  });

  it('are counted for each run by itself, though decisions are remembered', async () => {
    const first = await setUp([ATTACH_OWN]);
    await first.deny(attach('lighthouse'));
    const second = await setUp([ATTACH_OWN]);
    expect(second.iam.unusedPermissions()).toHaveLength(2);
    await second.deny(attach('lighthouse', '2'));
    expect(second.iam.unusedPermissions()).toHaveLength(1);
  });

  it('leave out AWS managed policies and what AWS does out of sight', async () => {
    const { iam } = await setUp([{ Effect: 'Allow', Action: 'logs:CreateLogDelivery', Resource: '*' }], {
      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore'],
    });
    expect(iam.unusedPermissions()).toEqual([]);
  });
});
