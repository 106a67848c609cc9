import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { Cloud, type Shape } from '../../drill/cloud/kernel.ts';
import { ModelledHosts } from '../../drill/hosts/modelled.ts';
import { Ec2Fixture } from './ec2-fixture.ts';

const SECONDS: Readonly<Record<string, number>> = {
  'ec2.firstStatusCheck': 150,
  'ec2.statusCheck': 120,
  'ec2.describeLag': 0,
};

async function withHost() {
  const fixture = await Ec2Fixture.create({
    onLatency: (name, ms) => (SECONDS[name] === undefined ? ms : SECONDS[name] * 1000),
  });
  const { id } = await fixture.launch();
  const statuses = async (input: Shape = {}): Promise<Shape[]> =>
    (await fixture.call('DescribeInstanceStatus', input)).InstanceStatuses;
  const status = async () => {
    const [found] = await statuses({ InstanceIds: [id] });
    return { system: found?.SystemStatus, instance: found?.InstanceStatus };
  };
  return { fixture, id, statuses, status };
}

describe('status checks', () => {
  it('initialize for minutes, then pass', async () => {
    const { fixture, status } = await withHost();
    expect(await status()).toEqual({
      system: { Status: 'initializing', Details: [{ Name: 'reachability', Status: 'initializing' }] },
      instance: { Status: 'initializing', Details: [{ Name: 'reachability', Status: 'initializing' }] },
    });
    await fixture.clock.pass(150_000);
    expect(await status()).toEqual({
      system: { Status: 'ok', Details: [{ Name: 'reachability', Status: 'passed' }] },
      instance: { Status: 'ok', Details: [{ Name: 'reachability', Status: 'passed' }] },
    });
  });

  it('find failed hardware after a while, and since when', async () => {
    const { fixture, id, status } = await withHost();
    await fixture.clock.pass(300_000);
    await fixture.ec2.failHost(id);
    const found = new Date(fixture.clock.now() + 120_000);
    await fixture.clock.pass(100_000);
    expect((await status()).system.Status).toBe('ok');
    await fixture.clock.pass(20_000);
    const impaired = {
      Status: 'impaired',
      Details: [{ Name: 'reachability', Status: 'failed', ImpairedSince: found }],
    };
    expect(await status()).toEqual({ system: impaired, instance: impaired });
    expect(fixture.ec2.machine(id)).toMatchObject({ state: 'running', health: 'dead' });
  });

  it('find a guest that hangs on hardware that is fine', async () => {
    const { fixture, id, status } = await withHost();
    await fixture.clock.pass(300_000);
    fixture.cloud.record('guest', id, { state: 'hung' });
    await fixture.clock.pass(121_000);
    const { system, instance } = await status();
    expect([system.Status, instance.Status]).toEqual(['ok', 'impaired']);
  });

  it('never pass for a guest that hung before they were through', async () => {
    const { fixture, id, status } = await withHost();
    fixture.cloud.record('guest', id, { state: 'hung' });
    await fixture.clock.pass(300_000);
    expect((await status()).instance.Status).toBe('impaired');
    expect(fixture.happened('status-checks', id, 'instance')).not.toContain('ok');
  });

  it('a modelled guest that hangs says so', () => {
    const cloud = new Cloud({ clock: new VirtualClock(), seed: 1 });
    const hosts = new ModelledHosts(cloud);
    const identity = {
      instanceId: 'i-0',
      instanceType: 't4g.small',
      zone: 'us-east-1a',
      privateIp: '10.0.0.4',
      macAddress: '02:00:00:00:00:01',
      interfaceId: 'eni-0',
      roleArn: 'arn:aws:iam::123456789012:role/host',
    };
    return hosts.createHost(identity).then(() => {
      hosts.hang('i-0');
      expect(cloud.happenings).toContainEqual(
        expect.objectContaining({ kind: 'guest', subject: 'i-0', detail: { state: 'hung' } }),
      );
    });
  });

  it('an instance whose guest hangs takes minutes to shut down', async () => {
    const { fixture, id } = await withHost();
    fixture.cloud.record('guest', id, { state: 'hung' });
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(90_000);
    expect(fixture.ec2.machine(id)?.state).toBe('shutting-down');
    await fixture.clock.pass(400_000);
    expect(fixture.ec2.machine(id)?.state).toBe('terminated');
  });
});

describe('DescribeInstanceStatus', () => {
  it('shows running instances, and the others when all are asked for', async () => {
    const { fixture, id, statuses } = await withHost();
    const other = await fixture.launch();
    await fixture.call('TerminateInstances', { InstanceIds: [other.id] });
    await fixture.clock.pass(200_000);
    expect(await statuses()).toMatchObject([
      { InstanceId: id, AvailabilityZone: 'us-east-1a', InstanceState: { Name: 'running' } },
    ]);
    expect(await statuses({ InstanceIds: [other.id] })).toEqual([]);
    expect(await statuses({ InstanceIds: [other.id], IncludeAllInstances: true })).toMatchObject([
      {
        InstanceState: { Name: 'terminated' },
        SystemStatus: { Status: 'not-applicable' },
        InstanceStatus: { Status: 'not-applicable' },
      },
    ]);
  });

  it('filters by status, and pages', async () => {
    const { fixture, id, statuses } = await withHost();
    await fixture.launch();
    await fixture.clock.pass(200_000);
    fixture.cloud.record('guest', id, { state: 'hung' });
    await fixture.clock.pass(200_000);
    const found = async (Name: string, value: string) =>
      (await statuses({ Filters: [{ Name, Values: [value] }] })).map(({ InstanceId }) => InstanceId);
    expect(await found('instance-status.status', 'impaired')).toEqual([id]);
    expect(await found('system-status.status', 'impaired')).toEqual([]);
    expect(await found('instance-state-name', 'running')).toHaveLength(2);
    for (let i = 0; i < 5; i++) await fixture.launch();
    const first = await fixture.call('DescribeInstanceStatus', { MaxResults: 5 });
    const second = await fixture.call('DescribeInstanceStatus', { MaxResults: 5, NextToken: first.NextToken });
    expect([first.InstanceStatuses.length, second.InstanceStatuses.length]).toEqual([5, 2]);
    expect(await fixture.errorOf('DescribeInstanceStatus', { InstanceIds: [id], MaxResults: 5 })).toBe(
      'InvalidParameterValue',
    );
    expect(await fixture.errorOf('DescribeInstanceStatus', { InstanceIds: ['i-0123456789abcdef0'] })).toBe(
      'InvalidInstanceID.NotFound',
    );
  });
});
