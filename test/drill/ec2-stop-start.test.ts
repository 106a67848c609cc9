import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { Cloud, NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import { ModelledHosts } from '../../drill/hosts/modelled.ts';
import { Ec2Fixture } from './ec2-fixture.ts';

const ADDRESS = '10.0.0.200';
const DEVICE = '/dev/sdf';

/** An on-demand host with a data volume and a secondary address. */
async function withHost() {
  const fixture = await Ec2Fixture.create({ onLatency: (name, ms) => (name === 'ec2.describeLag' ? 0 : ms) });
  const { id, host } = await fixture.launch({ lifecycle: 'on-demand' });
  await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: DEVICE });
  await fixture.call('AssignPrivateIpAddresses', {
    NetworkInterfaceId: host.identity.interfaceId,
    PrivateIpAddresses: [ADDRESS],
  });
  await fixture.clock.pass(10_000);
  const InstanceIds = [id];
  const stop = async (changes: Shape = {}) => {
    const answer = await fixture.call('StopInstances', { InstanceIds, ...changes });
    await fixture.clock.pass(200_000);
    return answer.StoppingInstances[0];
  };
  const start = async () => {
    const answer = await fixture.call('StartInstances', { InstanceIds });
    await fixture.clock.pass(60_000);
    return answer.StartingInstances[0];
  };
  /** The guest of now: each start makes another one. */
  const guest = () => fixture.runtime.hosts.get(id);
  return { fixture, id, host, InstanceIds, stop, start, guest };
}

describe('StopInstances', () => {
  it('shuts the operating system down, and keeps the addresses and volumes', async () => {
    const { fixture, id, host, stop } = await withHost();
    expect(await stop()).toEqual({
      InstanceId: id,
      CurrentState: { Code: 64, Name: 'stopping' },
      PreviousState: { Code: 16, Name: 'running' },
    });
    expect(host.told.filter((what) => what.startsWith('shutdown'))).toEqual(['shutdown os']);
    const stopped = await fixture.describe(id);
    expect(stopped).toMatchObject({
      State: { Code: 80, Name: 'stopped' },
      StateReason: { Code: 'Client.UserInitiatedShutdown' },
      PrivateIpAddress: host.identity.privateIp,
      NetworkInterfaces: [{ PrivateIpAddresses: [{}, { PrivateIpAddress: ADDRESS }] }],
    });
    expect(stopped.PublicIpAddress).toBeUndefined();
    expect(await fixture.describeVolume()).toMatchObject({ State: 'in-use', Attachments: [{ State: 'attached' }] });
    expect(fixture.events.map(({ detail }) => detail['state'])).toEqual(['pending', 'running', 'stopping', 'stopped']);
    const status = { InstanceIds: [id], IncludeAllInstances: true };
    expect((await fixture.call('DescribeInstanceStatus', status)).InstanceStatuses).toMatchObject([
      { InstanceState: { Name: 'stopped' }, SystemStatus: { Status: 'not-applicable' } },
    ]);
  });

  it('leaves the shutdown of the operating system out when it is told to', async () => {
    const { host, stop } = await withHost();
    await stop({ SkipOsShutdown: true });
    expect(host.told).toContain('shutdown hard');
  });

  it('refuses a Spot instance, and then stops none', async () => {
    const { fixture, id, InstanceIds } = await withHost();
    const spot = await fixture.launch();
    await expect(fixture.call('StopInstances', { InstanceIds: [...InstanceIds, spot.id] })).rejects.toMatchObject({
      code: 'UnsupportedOperation',
      message: expect.stringContaining(`You can't stop the Spot Instance '${spot.id}'`),
    });
    expect(fixture.ec2.machine(id)?.state).toBe('running');
  });

  it('is the same twice as once, and impossible for what has not begun to run or has ended', async () => {
    const { fixture, id, InstanceIds, stop } = await withHost();
    await stop();
    expect(await stop()).toMatchObject({ CurrentState: { Name: 'stopped' }, PreviousState: { Name: 'stopped' } });
    await fixture.call('TerminateInstances', { InstanceIds });
    expect(await fixture.errorOf('StopInstances', { InstanceIds })).toBe('IncorrectInstanceState');
    expect(await fixture.errorOf('StartInstances', { InstanceIds })).toBe('IncorrectInstanceState');
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet({ lifecycle: 'on-demand' }));
    const [pending] = Instances;
    expect(await fixture.errorOf('StopInstances', { InstanceIds: pending.InstanceIds })).toBe('IncorrectInstanceState');
    await fixture.clock.pass(60_000);
    expect(fixture.ec2.machine(id)?.state).toBe('terminated');
  });
});

describe('a stopped instance', () => {
  it('gives its volume away at once', async () => {
    const { fixture, host, stop } = await withHost();
    host.busy = true;
    await stop();
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(10_000);
    expect((await fixture.describeVolume()).State).toBe('available');
  });

  it('gives away a volume that its guest would not let go of before', async () => {
    const { fixture, host, stop } = await withHost();
    host.busy = true;
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(60_000);
    expect((await fixture.describeVolume()).Attachments[0].State).toBe('busy');
    await stop();
    expect((await fixture.describeVolume()).State).toBe('available');
  });

  it('never shows a volume that is being detached to the guest of its next start', async () => {
    const { fixture, InstanceIds, stop, guest } = await withHost();
    await stop();
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.call('StartInstances', { InstanceIds });
    await fixture.clock.pass(60_000);
    expect(guest()?.devices).toEqual(new Set());
    expect((await fixture.describeVolume()).State).toBe('available');
  });

  it('takes a volume, which its next guest has from the start', async () => {
    const { fixture, id, stop, start, guest } = await withHost();
    await stop();
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(10_000);
    await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: DEVICE });
    await fixture.clock.pass(10_000);
    expect((await fixture.describeVolume()).Attachments[0].State).toBe('attached');
    await start();
    expect(guest()?.devices).toEqual(new Set([fixture.volume]));
  });

  it('loses its address to another host', async () => {
    const { fixture, host, stop } = await withHost();
    await stop();
    const other = await fixture.launch();
    await fixture.call('AssignPrivateIpAddresses', {
      NetworkInterfaceId: other.host.identity.interfaceId,
      PrivateIpAddresses: [ADDRESS],
      AllowReassignment: true,
    });
    await fixture.clock.pass(10_000);
    expect(fixture.ec2.holderOf(ADDRESS)).toBe(other.id);
    expect(fixture.ec2.holderOf(host.identity.privateIp)).toBe(host.identity.instanceId);
  });

  it('is terminated without another shutdown', async () => {
    const { fixture, id, host, InstanceIds, stop } = await withHost();
    await stop();
    await fixture.call('TerminateInstances', { InstanceIds });
    await fixture.clock.pass(60_000);
    expect(fixture.happened('instance-state', id, 'state').slice(-3)).toEqual([
      'stopped',
      'shutting-down',
      'terminated',
    ]);
    expect(host.told.filter((what) => what.startsWith('shutdown'))).toHaveLength(1);
    expect((await fixture.describeVolume()).State).toBe('available');
  });

  it('that was terminated while it stopped waits for its guest', async () => {
    const { fixture, id, host, InstanceIds } = await withHost();
    host.shutdown = async (how) => {
      await fixture.clock.sleep(100_000);
      host.told.push(`shutdown ${how}`);
    };
    await fixture.call('StopInstances', { InstanceIds });
    await fixture.call('TerminateInstances', { InstanceIds });
    await fixture.clock.pass(90_000);
    expect((await fixture.describeVolume()).State).toBe('in-use');
    await fixture.clock.pass(60_000);
    expect((await fixture.describeVolume()).State).toBe('available');
    expect(host.told.filter((what) => what.startsWith('shutdown'))).toEqual(['shutdown os']);
    expect(fixture.happened('instance-state', id, 'state')).not.toContain('stopped');
  });
});

describe('StartInstances', () => {
  it('boots a fresh guest with the same identity, devices, addresses and user data', async () => {
    const { fixture, id, host, stop, start, guest } = await withHost();
    const launched = await fixture.describe(id);
    await stop();
    expect(await start()).toMatchObject({ CurrentState: { Name: 'pending' }, PreviousState: { Name: 'stopped' } });
    const second = guest();
    expect(second).not.toBe(host);
    expect(second?.identity).toEqual(host.identity);
    expect(second?.devices).toEqual(new Set([fixture.volume]));
    expect(second?.addresses).toEqual([host.identity.privateIp, ADDRESS]);
    expect(second?.told).toEqual(['attach', 'boot #!/bin/sh\necho template']);
    expect(fixture.happened('instance-state', id, 'state')).toEqual([
      'pending',
      'running',
      'stopping',
      'stopped',
      'pending',
      'running',
    ]);
    const started = await fixture.describe(id);
    expect(started.LaunchTime.getTime()).toBeGreaterThan(launched.LaunchTime.getTime());
    expect(started.PublicIpAddress).toMatch(/^203\.0\.113\./);
    expect(started.PublicIpAddress).not.toBe(launched.PublicIpAddress);
    expect(started.StateReason).toBeUndefined();
  });

  it('heals what hung or failed, and checks anew', async () => {
    const { fixture, id, stop, start } = await withHost();
    await fixture.ec2.failHost(id);
    await fixture.clock.pass(600_000);
    await fixture.call('StopInstances', { InstanceIds: [id] });
    await fixture.clock.pass(90_000);
    expect(fixture.ec2.machine(id)?.state).toBe('stopping');
    await fixture.clock.pass(400_000);
    await stop();
    await start();
    const { InstanceStatuses } = await fixture.call('DescribeInstanceStatus', { InstanceIds: [id] });
    expect(InstanceStatuses[0].SystemStatus.Status).toBe('initializing');
    expect(fixture.ec2.machine(id)?.health).toBe('sound');
  });

  it('needs capacity, of the same table as launches', async () => {
    const { fixture, id, InstanceIds, stop, start } = await withHost();
    await stop();
    fixture.ec2.capacity('t4g.small', 'on-demand', false);
    expect(await fixture.errorOf('StartInstances', { InstanceIds })).toBe('InsufficientInstanceCapacity');
    expect(fixture.ec2.machine(id)?.state).toBe('stopped');
    fixture.ec2.offering('t4g.small', 'us-east-1a', false);
    expect(await fixture.errorOf('StartInstances', { InstanceIds })).toBe('Unsupported');
    fixture.ec2.offering('t4g.small', 'us-east-1a', true);
    fixture.ec2.capacity('t4g.small', 'on-demand', 1);
    await start();
    expect(fixture.ec2.machine(id)?.state).toBe('running');
    const { Errors } = await fixture.call('CreateFleet', fixture.fleet({ lifecycle: 'on-demand' }));
    expect(Errors[0].ErrorCode).toBe('InsufficientInstanceCapacity');
  });

  it('cannot start what is still stopping', async () => {
    const { fixture, InstanceIds } = await withHost();
    await fixture.call('StopInstances', { InstanceIds });
    expect(await fixture.errorOf('StartInstances', { InstanceIds })).toBe('IncorrectInstanceState');
  });

  it('lets a modelled guest find its volume and serve again', async () => {
    const clock = new VirtualClock();
    const cloud = new Cloud({ clock, seed: 1 });
    const nothing = { authorize: () => [], invoke: () => ({}) };
    cloud.register({ name: 'ssm', operations: { PutParameter: nothing } });
    const hosts = new ModelledHosts(cloud);
    const volume = { volumeId: 'vol-0a', sizeGiB: 20 };
    await hosts.createVolume(volume);
    const variables = {
      KEEPER_DATABASE: 'lighthouse',
      KEEPER_REGION: 'us-east-1',
      KEEPER_ADDRESS: ADDRESS,
      KEEPER_IMAGE: 'timescale/timescaledb@sha256:0',
      KEEPER_PASSWORD_PARAMETER: '/keeper/lighthouse/password',
      KEEPER_VOLUME_ID: volume.volumeId,
      KEEPER_FORMAT_BLANK: 'true',
    };
    const userData = Object.entries(variables).map(([name, value]) => `export ${name}='${value}'\n`);
    const boot = async () => {
      const host = await hosts.createHost({
        instanceId: 'i-0',
        instanceType: 't4g.micro',
        zone: 'us-east-1a',
        privateIp: '10.0.0.4',
        macAddress: '02:00:00:00:00:01',
        interfaceId: 'eni-1',
        roleArn: 'arn:aws:iam::123456789012:role/host',
      });
      await host.setAddresses(['10.0.0.4', ADDRESS]);
      await host.attach(volume);
      host.boot(`#!/bin/bash\n${userData.join('')}`);
      await clock.pass(120_000);
      return host;
    };
    const first = await boot();
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    await clock.run(first.shutdown('os'));
    expect(hosts.servingHost(ADDRESS)).toBeUndefined();
    await boot();
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    expect(cloud.happenings.filter(({ kind }) => kind === 'broken-promise')).toEqual([]);
  });
});

describe('ModifyInstanceAttribute', () => {
  const type = (InstanceId: string, Value: string) => ({ InstanceId, InstanceType: { Value } });

  it('gives a stopped instance another type', async () => {
    const { fixture, id, stop, start, guest } = await withHost();
    expect(await fixture.errorOf('ModifyInstanceAttribute', type(id, 't4g.medium'))).toBe('IncorrectInstanceState');
    await stop();
    await fixture.call('ModifyInstanceAttribute', type(id, 't4g.medium'));
    expect((await fixture.describe(id)).InstanceType).toBe('t4g.medium');
    await start();
    expect(guest()?.identity.instanceType).toBe('t4g.medium');
  });

  it('refuses a type of another architecture, and one that does not exist', async () => {
    const { fixture, id, stop } = await withHost();
    await stop();
    for (const [value, message] of [
      ['t3.small', "architecture 'x86_64'"],
      ['t9g.small', 'do not exist: [t9g.small]'],
    ] as const) {
      await expect(fixture.call('ModifyInstanceAttribute', type(id, value))).rejects.toMatchObject({
        code: 'InvalidParameterValue',
        message: expect.stringContaining(message),
      });
    }
    await expect(
      fixture.call('ModifyInstanceAttribute', { InstanceId: id, EbsOptimized: { Value: true } }),
    ).rejects.toThrow(NotModelled);
  });
});
