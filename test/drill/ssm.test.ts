import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { type Authorization, type AwsEvent, Cloud, type Shape } from '../../drill/cloud/kernel.ts';
import { type ManagedInstance, parseSteps, Ssm } from '../../drill/cloud/ssm.ts';
import type { Host, RunResult, RunScript } from '../../drill/hosts/host.ts';

const OK: RunResult = { exitCode: 0, timedOut: false, stdout: '', stderr: '' };
const CALLER = { roleArn: 'arn:aws:iam::123456789012:role/move', session: 'move' };
const INSTANCE = 'i-0123456789abcdef0';
const DOCUMENT = {
  DocumentType: 'Command',
  Name: 'keeper-release',
  Tags: [{ Key: 'keeper:database', Value: 'lighthouse' }],
  Content: {
    schemaVersion: '2.2',
    parameters: {
      volume: { type: 'String', interpolationType: 'ENV_VAR', allowedPattern: '^vol-[0-9a-f]+$' },
      mode: { type: 'String', interpolationType: 'ENV_VAR', allowedValues: ['fast', 'smart'], default: 'fast' },
      patience: { type: 'String', default: '60' },
    },
    mainSteps: [
      {
        action: 'aws:runShellScript',
        name: 'release',
        inputs: { runCommand: ['set -eu', 'echo "$SSM_volume"'], timeoutSeconds: '{{ patience }}' },
      },
    ],
  },
};

/** A cloud with Systems Manager, one running instance, and a host that answers as `run` says. */
function setUp(run: (script: RunScript, clock: VirtualClock) => Promise<RunResult> = async () => OK) {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1 });
  cloud.faults = { onLatency: (name, ms) => (name === 'ssm.agentOnline' ? 40_000 : ms) };
  const scripts: RunScript[] = [];
  const host: Partial<Host> = {
    run: (script) => {
      scripts.push(script);
      return run(script, clock);
    },
  };
  const instance = {
    host: host as Host,
    tags: { 'keeper:role': 'host' },
    state: 'running',
    roleArn: 'arn:aws:iam::123456789012:role/host',
    runningSince: clock.now(),
  };
  const instances: Record<string, ManagedInstance> = { [INSTANCE]: instance };
  const ssm = new Ssm(cloud, (instanceId) => instances[instanceId]);
  cloud.register(ssm);
  const events: AwsEvent[] = [];
  cloud.onEvent((event) => events.push(event));
  const call = (operation: string, input: Shape) =>
    clock.run(cloud.call({ service: 'ssm', operation, input, caller: CALLER }));
  const send = async (input: Shape = {}): Promise<string> => {
    const { Command } = await call('SendCommand', {
      DocumentName: 'keeper-release',
      InstanceIds: [INSTANCE],
      Parameters: { volume: ['vol-0a'] },
      TimeoutSeconds: 30,
      ...input,
    });
    return Command.CommandId;
  };
  const invocation = (CommandId: string) => call('GetCommandInvocation', { CommandId, InstanceId: INSTANCE });
  const deploy = async (type: 'AWS::SSM::Document' | 'AWS::SSM::Parameter', properties: Shape) =>
    ssm.handlers[type]?.create('Thing', properties, {
      stackName: 'keeper',
      physicalName: (id) => `keeper-${id}`,
      assetPath: undefined,
    });
  return { clock, cloud, ssm, instance, instances, scripts, events, call, send, invocation, deploy };
}

/** The same, with the document deployed and the agent online. */
async function setUpOnline(run?: (script: RunScript, clock: VirtualClock) => Promise<RunResult>) {
  const world = setUp(run);
  await world.deploy('AWS::SSM::Document', DOCUMENT);
  world.cloud.record('instance-state', INSTANCE, { state: 'running' });
  await world.clock.pass(60_000);
  return world;
}

describe('Parameter Store', () => {
  it('keeps every version, and refuses to overwrite unless asked', async () => {
    const { call } = setUp();
    await call('PutParameter', { Name: '/keeper/lighthouse/volume-id', Value: 'vol-1', Type: 'String' });
    await expect(
      call('PutParameter', { Name: '/keeper/lighthouse/volume-id', Value: 'vol-2', Type: 'String' }),
    ).rejects.toMatchObject({ name: 'ParameterAlreadyExists' });
    const put = await call('PutParameter', { Name: '/keeper/lighthouse/volume-id', Value: 'vol-2', Overwrite: true });
    expect(put.Version).toBe(2);

    const { Parameter } = await call('GetParameter', { Name: '/keeper/lighthouse/volume-id' });
    expect(Parameter).toMatchObject({
      Value: 'vol-2',
      Version: 2,
      ARN: 'arn:aws:ssm:us-east-1:123456789012:parameter/keeper/lighthouse/volume-id',
    });
    const { Parameters } = await call('GetParameterHistory', { Name: '/keeper/lighthouse/volume-id' });
    expect(Parameters.map((version: Shape) => version.Value)).toEqual(['vol-1', 'vol-2']);
    const first = await call('GetParameter', { Name: '/keeper/lighthouse/volume-id:1' });
    expect(first.Parameter.Value).toBe('vol-1');
  });

  it('shows a SecureString only with decryption', async () => {
    const { call } = setUp();
    await call('PutParameter', { Name: '/keeper/password', Value: 'secret', Type: 'SecureString' });
    const closed = await call('GetParameter', { Name: '/keeper/password' });
    const open = await call('GetParameter', { Name: '/keeper/password', WithDecryption: true });
    expect(closed.Parameter.Value).not.toContain('secret');
    expect(open.Parameter.Value).toBe('secret');
  });

  it('lists a path, one level or all, and what is not there is said', async () => {
    const { call } = setUp();
    for (const name of ['/keeper/a', '/keeper/b/c', '/other']) {
      await call('PutParameter', { Name: name, Value: 'x', Type: 'String' });
    }
    const names = async (input: Shape) =>
      (await call('GetParametersByPath', input)).Parameters.map((parameter: Shape) => parameter.Name);
    expect(await names({ Path: '/keeper' })).toEqual(['/keeper/a']);
    expect(await names({ Path: '/keeper', Recursive: true })).toEqual(['/keeper/a', '/keeper/b/c']);
    const both = await call('GetParameters', { Names: ['/keeper/a', '/gone'] });
    expect(both.InvalidParameters).toEqual(['/gone']);
    await expect(call('GetParameter', { Name: '/gone' })).rejects.toMatchObject({ name: 'ParameterNotFound' });
  });

  it('gives the image of Amazon Linux, which belongs to no account', async () => {
    const { call, ssm } = setUp();
    const name = '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64';
    const { Parameter } = await call('GetParameter', { Name: name });
    expect(Parameter.Value).toMatch(/^ami-[0-9a-f]{17}$/);
    expect(Parameter.ARN).toBe(`arn:aws:ssm:us-east-1::parameter${name}`);
    expect(ssm.parameterValue(name)).toBe(Parameter.Value);
  });

  it('asks IAM about the tags of the parameter, of the request, and about overwriting', async () => {
    const { call, cloud } = setUp();
    const asked: Authorization[] = [];
    cloud.authorizer = {
      deny: (_caller, authorization) => {
        asked.push(authorization);
        return undefined;
      },
    };
    await call('PutParameter', { Name: '/k', Value: 'x', Type: 'String', Tags: [{ Key: 'team', Value: 'db' }] });
    await call('GetParameter', { Name: '/k' });
    expect(asked).toEqual([
      {
        action: 'ssm:PutParameter',
        resource: 'arn:aws:ssm:us-east-1:123456789012:parameter/k',
        context: { 'ssm:Overwrite': 'false', 'aws:RequestTag/team': 'db', 'aws:TagKeys': ['team'] },
      },
      {
        action: 'ssm:AddTagsToResource',
        resource: 'arn:aws:ssm:us-east-1:123456789012:parameter/k',
        context: { 'aws:RequestTag/team': 'db', 'aws:TagKeys': ['team'] },
      },
      {
        action: 'ssm:GetParameter',
        resource: 'arn:aws:ssm:us-east-1:123456789012:parameter/k',
        context: { 'aws:ResourceTag/team': 'db' },
      },
    ]);
  });

  it('is made, changed and deleted by a template', async () => {
    const { call, deploy, ssm } = setUp();
    const properties = { Type: 'String', Name: '/keeper/volume-id', Value: 'vol-1' };
    const created = await deploy('AWS::SSM::Parameter', properties);
    expect(created).toEqual({ ref: '/keeper/volume-id', attributes: { Type: 'String', Value: 'vol-1' } });
    await expect(deploy('AWS::SSM::Parameter', { ...properties, Policies: '[]' })).rejects.toThrow(/Policies/);
    const stack = { stackName: 'keeper', physicalName: (id: string) => id, assetPath: undefined };
    if (!created) throw new Error('not created');
    await ssm.handlers['AWS::SSM::Parameter']?.update?.(created, { ...properties, Value: 'vol-2' }, properties, stack);
    expect(ssm.parameterValue('/keeper/volume-id')).toBe('vol-2');
    await ssm.handlers['AWS::SSM::Parameter']?.delete(created);
    await expect(call('GetParameter', { Name: '/keeper/volume-id' })).rejects.toThrow();
  });
});

describe('command documents', () => {
  const withStep = (inputs: Shape) => ({
    ...DOCUMENT,
    Content: { ...DOCUMENT.Content, mainSteps: [{ action: 'aws:runShellScript', name: 'step', inputs }] },
  });

  it('refuses a parameter that would be put into the script as text', async () => {
    const { deploy } = setUp();
    await expect(deploy('AWS::SSM::Document', withStep({ runCommand: ['umount {{ volume }}'] }))).rejects.toThrow(
      /inject/,
    );
  });

  it('leaves the braces of other programs alone', async () => {
    const { deploy } = setUp();
    const inputs = { runCommand: ["docker inspect -f '{{.State.ExitCode}}' db", "docker ps --format '{{json .}}'"] };
    await expect(deploy('AWS::SSM::Document', withStep(inputs))).resolves.toMatchObject({ ref: 'keeper-release' });
  });

  it('makes a new version the default one', async () => {
    const { ssm, deploy, send, clock, cloud, scripts } = setUp();
    const created = await deploy('AWS::SSM::Document', DOCUMENT);
    if (!created) throw new Error('not created');
    const next = { ...withStep({ runCommand: ['true'] }), UpdateMethod: 'NewVersion' };
    const stack = { stackName: 'keeper', physicalName: (id: string) => id, assetPath: undefined };
    const handler = ssm.handlers['AWS::SSM::Document'];
    await handler?.update?.(created, { ...next, Content: JSON.stringify(next.Content) }, DOCUMENT, stack);
    cloud.record('instance-state', INSTANCE, { state: 'running' });
    await clock.pass(60_000);
    await send();
    await send({ DocumentVersion: '1' });
    await clock.pass(10_000);
    expect(scripts.map(({ script }) => script).sort()).toEqual(['set -eu\necho "$SSM_volume"', 'true']);
    await handler?.delete(created);
    await expect(send()).rejects.toMatchObject({ name: 'InvalidDocument' });
  });

  it('refuses what it does not model', async () => {
    const { deploy } = setUp();
    const content = (changes: Shape) => ({ ...DOCUMENT, Content: { ...DOCUMENT.Content, ...changes } });
    const refused = [
      content({ schemaVersion: '1.2' }),
      content({ files: {} }),
      content({ parameters: { hosts: { type: 'StringList' } } }),
      content({ parameters: { volume: { type: 'String', allowedPattern: 'vol-' } } }),
      content({ mainSteps: [{ action: 'aws:runDocument', name: 'step', inputs: {} }] }),
      withStep({ runCommand: ['true'], workingDirectory: '/' }),
      { ...DOCUMENT, DocumentType: 'Automation' },
    ];
    for (const properties of refused) {
      await expect(deploy('AWS::SSM::Document', properties)).rejects.toMatchObject({ name: 'NotModelled' });
    }
  });
});

describe('SendCommand', () => {
  it('runs the script with its parameters in the environment, and reports a moment later', async () => {
    const { send, invocation, clock, scripts, cloud, events } = await setUpOnline(async (_script, clock) => {
      await clock.sleep(400);
      return { ...OK, stdout: 'stopping\nkeeper-step docker-stop 1767614400.25 0.31\n', stderr: 'warning' };
    });
    const id = await send({ Comment: 'relocate-1', Parameters: { volume: ['vol-0a'], patience: ['90'] } });
    await clock.pass(10_000);

    expect(scripts).toEqual([
      {
        document: 'keeper-release',
        script: 'set -eu\necho "$SSM_volume"',
        environment: { SSM_volume: 'vol-0a', SSM_mode: 'fast' },
        timeoutSeconds: 90,
      },
    ]);
    expect(await invocation(id)).toMatchObject({
      Comment: 'relocate-1',
      Status: 'Success',
      StatusDetails: 'Success',
      ResponseCode: 0,
      PluginName: 'release',
      StandardErrorContent: 'warning',
      ExecutionElapsedTime: 'PT0.4S',
    });
    const phases = cloud.happenings.filter(({ kind, subject }) => kind === 'command' && subject === id);
    expect(phases.map(({ detail }) => detail['phase'])).toEqual(['sent', 'delivered', 'ended', 'reported']);
    expect(phases[2]?.detail).toMatchObject({
      exitCode: 0,
      instanceId: INSTANCE,
      steps: [{ name: 'docker-stop', startedAtSeconds: 1767614400.25, seconds: 0.31 }],
    });
    expect(events.map((event) => event.detail['status'])).toEqual(['InProgress', 'Success']);
    expect(events[1]).toMatchObject({
      'detail-type': 'EC2 Command Invocation Status-change Notification',
      resources: [`arn:aws:ec2:us-east-1:123456789012:instance/${INSTANCE}`],
      detail: { 'command-id': id, 'document-name': 'keeper-release', 'instance-id': INSTANCE },
    });
  });

  it('does not know the invocation right away', async () => {
    const { send, invocation, cloud, call, clock } = await setUpOnline();
    cloud.faults = { onLatency: (name, ms) => (name === 'ssm.invocationLag' ? 5_000 : ms) };
    const id = await send();
    await expect(invocation(id)).rejects.toMatchObject({ name: 'InvocationDoesNotExist' });
    expect((await call('ListCommandInvocations', { CommandId: id })).CommandInvocations).toEqual([]);
    await clock.pass(6_000);
    expect(await invocation(id)).toMatchObject({ Status: 'Success' });
  });

  it('needs an agent that is online', async () => {
    const { send, deploy, clock, instance, ssm } = setUp();
    await deploy('AWS::SSM::Document', DOCUMENT);
    const refused = { name: 'InvalidInstanceId' };
    await expect(send()).rejects.toMatchObject(refused);
    await clock.pass(60_000);
    await send();
    await expect(send({ InstanceIds: ['i-00000000000000000'] })).rejects.toMatchObject(refused);
    ssm.agentDead(INSTANCE);
    await send();
    await clock.pass(11 * 60_000);
    await expect(send()).rejects.toMatchObject(refused);
    instance.state = 'shutting-down';
    await expect(send()).rejects.toMatchObject(refused);
  });

  it('checks parameters, document and limits', async () => {
    const { send } = await setUpOnline();
    const invalid = { name: 'InvalidParameters' };
    await expect(send({ Parameters: {} })).rejects.toMatchObject(invalid);
    await expect(send({ Parameters: { volume: ['vol-0a; reboot'] } })).rejects.toMatchObject(invalid);
    await expect(send({ Parameters: { volume: ['vol-0a'], mode: ['immediate'] } })).rejects.toMatchObject(invalid);
    await expect(send({ Parameters: { volume: ['vol-0a'], force: ['yes'] } })).rejects.toMatchObject(invalid);
    await expect(send({ Parameters: { volume: ['vol-0a', 'vol-0b'] } })).rejects.toMatchObject(invalid);
    await expect(send({ DocumentName: 'unknown' })).rejects.toMatchObject({ name: 'InvalidDocument' });
    await expect(send({ DocumentVersion: '7' })).rejects.toMatchObject({ name: 'InvalidDocumentVersion' });
    await expect(send({ TimeoutSeconds: 29 })).rejects.toMatchObject({ name: 'ValidationException' });
    await expect(send({ Comment: 'x'.repeat(101) })).rejects.toMatchObject({ name: 'ValidationException' });
    await expect(send({ MaxErrors: '1' })).rejects.toMatchObject({ name: 'NotModelled' });
  });

  it('asks IAM about the document and about every instance, with their tags', async () => {
    const { send, cloud } = await setUpOnline();
    const asked: Authorization[] = [];
    cloud.authorizer = {
      deny: (_caller, authorization) => {
        asked.push(authorization);
        return undefined;
      },
    };
    await send();
    expect(asked).toEqual([
      {
        action: 'ssm:SendCommand',
        resource: 'arn:aws:ssm:us-east-1:123456789012:document/keeper-release',
        context: { 'aws:ResourceTag/keeper:database': 'lighthouse', 'ssm:resourceTag/keeper:database': 'lighthouse' },
      },
      {
        action: 'ssm:SendCommand',
        resource: `arn:aws:ec2:us-east-1:123456789012:instance/${INSTANCE}`,
        context: { 'aws:ResourceTag/keeper:role': 'host', 'ssm:resourceTag/keeper:role': 'host' },
      },
    ]);
  });

  it('says that a script failed, or outlived its time', async () => {
    const { send, invocation, clock } = await setUpOnline(async (script, clock) => {
      if (script.environment['SSM_mode'] === 'fast') return { ...OK, exitCode: 3 };
      await clock.sleep(script.timeoutSeconds * 1000);
      return { ...OK, exitCode: 137, timedOut: true };
    });
    const failed = await send();
    const slow = await send({ Parameters: { volume: ['vol-0a'], mode: ['smart'] } });
    await clock.pass(70_000);
    expect(await invocation(failed)).toMatchObject({ Status: 'Failed', StatusDetails: 'Failed', ResponseCode: 3 });
    expect(await invocation(slow)).toMatchObject({
      Status: 'TimedOut',
      StatusDetails: 'ExecutionTimedOut',
      ResponseCode: 137,
    });
  });

  it('leaves a command that never arrives undecided until both timeouts have passed', async () => {
    const { send, invocation, clock, ssm, scripts } = await setUpOnline();
    ssm.agentDead(INSTANCE);
    const id = await send();
    await clock.pass(85_000);
    expect(await invocation(id)).toMatchObject({ Status: 'Delayed' });
    await clock.pass(10_000);
    expect(await invocation(id)).toMatchObject({ Status: 'TimedOut', StatusDetails: 'DeliveryTimedOut' });
    expect(scripts).toEqual([]);
  });

  it('leaves a command InProgress whose instance is terminated while it runs', async () => {
    const { send, invocation, clock, instance } = await setUpOnline((_script, clock) =>
      clock.sleep(20_000).then(() => OK),
    );
    const id = await send();
    await clock.pass(10_000);
    instance.state = 'shutting-down';
    await clock.pass(70_000);
    expect(await invocation(id)).toMatchObject({ Status: 'InProgress', ResponseCode: -1 });
    await clock.pass(15_000);
    expect(await invocation(id)).toMatchObject({ Status: 'TimedOut', StatusDetails: 'DeliveryTimedOut' });
  });

  it('runs five commands of a host side by side, and no sixth', async () => {
    const { send, clock, scripts } = await setUpOnline((_script, clock) => clock.sleep(20_000).then(() => OK));
    for (let i = 0; i < 6; i++) await send();
    await clock.pass(10_000);
    expect(scripts).toHaveLength(5);
    await clock.pass(20_000);
    expect(scripts).toHaveLength(6);
  });

  it('never starts what could not begin before the delivery timeout', async () => {
    const { send, invocation, clock, scripts } = await setUpOnline((_script, clock) =>
      clock.sleep(50_000).then(() => OK),
    );
    for (let i = 0; i < 5; i++) await send();
    await clock.pass(10_000);
    const late = await send({ TimeoutSeconds: 30 });
    await clock.pass(85_000);
    expect(await invocation(late)).toMatchObject({ Status: 'Pending' });
    await clock.pass(10_000);
    expect(await invocation(late)).toMatchObject({ StatusDetails: 'DeliveryTimedOut' });
    expect(scripts).toHaveLength(5);
  });

  it('cancels what has not begun', async () => {
    const { send, call, invocation, cloud, clock, scripts } = await setUpOnline();
    cloud.faults = { onLatency: (name, ms) => (name === 'ssm.deliver' ? 5_000 : ms) };
    const id = await send();
    await call('CancelCommand', { CommandId: id });
    await clock.pass(10_000);
    expect(await invocation(id)).toMatchObject({ Status: 'Cancelled' });
    expect(scripts).toEqual([]);
  });

  it('lists invocations, the newest first, by page and by filter', async () => {
    const { send, call, clock } = await setUpOnline();
    for (const Comment of ['first', 'second', 'third']) {
      await send({ Comment });
      await clock.pass(10_000);
    }
    const comments = (page: Shape) => page.CommandInvocations.map((invocation: Shape) => invocation.Comment);
    const page = await call('ListCommandInvocations', { InstanceId: INSTANCE, MaxResults: 2, Details: true });
    expect(comments(page)).toEqual(['third', 'second']);
    expect(page.CommandInvocations[0].CommandPlugins[0]).toMatchObject({ Name: 'release', Status: 'Success' });
    const rest = await call('ListCommandInvocations', { InstanceId: INSTANCE, NextToken: page.NextToken });
    expect(comments(rest)).toEqual(['first']);
    const failed = await call('ListCommandInvocations', { Filters: [{ key: 'Status', value: 'Failed' }] });
    expect(comments(failed)).toEqual([]);
  });
});

describe('the agent', () => {
  it('never comes online when the role of its host lacks a permission, and that is recorded', async () => {
    const { cloud, clock, send, deploy } = setUp();
    await deploy('AWS::SSM::Document', DOCUMENT);
    cloud.authorizer = {
      deny: (_caller, { action }) => (action === 'ssmmessages:OpenDataChannel' ? 'not allowed' : undefined),
    };
    cloud.record('instance-state', INSTANCE, { state: 'running' });
    await clock.pass(600_000);
    await expect(send()).rejects.toMatchObject({ name: 'InvalidInstanceId' });
    expect(cloud.denied).toEqual([
      {
        action: 'ssmmessages:OpenDataChannel',
        resource: '*',
        role: 'arn:aws:iam::123456789012:role/host',
        reason: 'not allowed',
      },
    ]);
  });

  it('is listed once it has registered', async () => {
    const { call, clock, cloud } = setUp();
    cloud.record('instance-state', INSTANCE, { state: 'running' });
    const filter = { Filters: [{ Key: 'InstanceIds', Values: [INSTANCE] }] };
    expect((await call('DescribeInstanceInformation', filter)).InstanceInformationList).toEqual([]);
    await clock.pass(60_000);
    expect((await call('DescribeInstanceInformation', filter)).InstanceInformationList).toMatchObject([
      { InstanceId: INSTANCE, PingStatus: 'Online' },
    ]);
  });
});

describe('parseSteps', () => {
  it('reads the steps and leaves everything else', () => {
    const stdout = 'keeper-step umount 1767614400 0.07\nother keeper-step x 1 2\nkeeper-step bad one 2\n';
    expect(parseSteps(stdout)).toEqual([{ name: 'umount', startedAtSeconds: 1767614400, seconds: 0.07 }]);
  });
});
