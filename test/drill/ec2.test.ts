import { describe, expect, it } from 'vitest';
import { NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import { Ec2Fixture, X86_IMAGE } from './ec2-fixture.ts';

describe('the life of an instance', () => {
  it('goes from pending to running, then runs its user data', async () => {
    const fixture = await Ec2Fixture.create();
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet());
    const id = Instances[0].InstanceIds[0];
    await fixture.clock.pass(2000);
    expect((await fixture.describe(id)).State).toEqual({ Code: 0, Name: 'pending' });
    await fixture.clock.pass(12_000);
    expect((await fixture.describe(id)).State).toEqual({ Code: 16, Name: 'running' });
    await fixture.clock.pass(30_000);
    expect(fixture.runtime.hosts.get(id)?.told).toEqual(['boot #!/bin/sh\necho template']);
    expect(fixture.happened('instance-state', id, 'state')).toEqual(['pending', 'running']);
  });

  it('announces each state as EC2 documents it', async () => {
    const fixture = await Ec2Fixture.create();
    const { id } = await fixture.launch();
    const event = fixture.events.find(({ detail }) => detail['state'] === 'running');
    expect(event).toMatchObject({
      'detail-type': 'EC2 Instance State-change Notification',
      source: 'aws.ec2',
      account: '123456789012',
      region: 'us-east-1',
      resources: [`arn:aws:ec2:us-east-1:123456789012:instance/${id}`],
      detail: { 'instance-id': id, state: 'running' },
    });
    expect(event).not.toHaveProperty('version');
    expect(event?.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  });

  it('is not found while it is too new to be visible', async () => {
    const fixture = await Ec2Fixture.create({
      onLatency: (name, ms) => (name === 'ec2.describeLag' ? 10_000 : ms),
    });
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet());
    const InstanceIds = Instances[0].InstanceIds;
    expect(await fixture.errorOf('DescribeInstances', { InstanceIds })).toBe('InvalidInstanceID.NotFound');
    await fixture.clock.pass(10_000);
    expect(await fixture.errorOf('DescribeInstances', { InstanceIds })).toBe('none');
  });

  it('shows changes late but never goes back to an older one', async () => {
    let lag = 5000;
    const fixture = await Ec2Fixture.create({ onLatency: (name, ms) => (name === 'ec2.describeLag' ? lag : ms) });
    const { id } = await fixture.launch();
    await fixture.call('CreateTags', { Resources: [id], Tags: [{ Key: 'step', Value: 'first' }] });
    lag = 0;
    await fixture.call('CreateTags', { Resources: [id], Tags: [{ Key: 'step', Value: 'second' }] });
    const steps: unknown[] = [];
    for (let i = 0; i < 60; i++) {
      const { Tags } = await fixture.describe(id);
      steps.push(Tags.find((tag: Shape) => tag.Key === 'step')?.Value);
      await fixture.clock.pass(100);
    }
    expect([...new Set(steps)]).toEqual([undefined, 'second']);
  });

  it('shuts its operating system down before it is terminated, and stays visible for an hour', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    const { TerminatingInstances } = await fixture.call('TerminateInstances', { InstanceIds: [id] });
    expect(TerminatingInstances[0]).toMatchObject({
      CurrentState: { Name: 'shutting-down' },
      PreviousState: { Name: 'running' },
    });
    await fixture.clock.pass(120_000);
    expect(host.told).toContain('shutdown os');
    const terminated = await fixture.describe(id);
    expect(terminated.State.Name).toBe('terminated');
    expect(terminated.StateReason.Code).toBe('Client.UserInitiatedShutdown');
    expect(terminated.NetworkInterfaces).toEqual([]);
    await fixture.clock.pass(3_600_000);
    expect(await fixture.errorOf('DescribeInstances', { InstanceIds: [id] })).toBe('InvalidInstanceID.NotFound');
    expect((await fixture.call('DescribeInstances', {})).Reservations).toEqual([]);
  });

  it('ends hard with SkipOsShutdown, and terminating twice is the same as once', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    await fixture.call('TerminateInstances', { InstanceIds: [id], SkipOsShutdown: true });
    const again = await fixture.call('TerminateInstances', { InstanceIds: [id] });
    expect(again.TerminatingInstances[0].PreviousState.Name).toBe('shutting-down');
    await fixture.clock.pass(40_000);
    expect((await fixture.describe(id)).State.Name).toBe('terminated');
    expect(host.told.filter((what) => what.startsWith('shutdown'))).toEqual(['shutdown hard']);
  });

  it('terminates none when one of the ids is unknown', async () => {
    const fixture = await Ec2Fixture.create();
    const { id } = await fixture.launch();
    const InstanceIds = [id, 'i-0123456789abcdef0'];
    expect(await fixture.errorOf('TerminateInstances', { InstanceIds })).toBe('InvalidInstanceID.NotFound');
    expect(fixture.ec2.machine(id)?.state).toBe('running');
  });

  it('never runs the user data of an instance that was terminated while pending', async () => {
    const fixture = await Ec2Fixture.create({ onLatency: (name, ms) => (name === 'ec2.describeLag' ? 0 : ms) });
    const { Instances } = await fixture.call('CreateFleet', fixture.fleet());
    const id = Instances[0].InstanceIds[0];
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(120_000);
    expect(fixture.happened('instance-state', id, 'state')).toEqual(['pending', 'shutting-down', 'terminated']);
    expect(fixture.runtime.hosts.get(id)?.told).toEqual(['shutdown os']);
  });

  it('still runs for EC2 when its hardware fails, and keeps its volume until it is terminated', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: '/dev/sdf' });
    await fixture.clock.pass(10_000);
    await fixture.ec2.failHost(id);
    expect(host.told).toContain('shutdown hard');
    expect((await fixture.describe(id)).State.Name).toBe('running');
    await fixture.call('DetachVolume', { VolumeId: fixture.volume });
    await fixture.clock.pass(300_000);
    expect((await fixture.describeVolume()).Attachments[0].State).toBe('detaching');
    await fixture.call('TerminateInstances', { InstanceIds: [id], SkipOsShutdown: true });
    await fixture.clock.pass(60_000);
    expect((await fixture.describeVolume()).State).toBe('available');
  });
});

describe('DescribeInstances', () => {
  it('filters by state, tag and address, and a launch is a reservation of its own', async () => {
    const fixture = await Ec2Fixture.create();
    const tags = (name: string) => [{ ResourceType: 'instance', Tags: [{ Key: 'keeper:execution', Value: name }] }];
    const first = await fixture.launch({ TagSpecifications: tags('one') });
    const second = await fixture.launch({ TagSpecifications: tags('two') });
    const found = async (...Filters: Shape[]) =>
      (await fixture.call('DescribeInstances', { Filters })).Reservations.map(
        (reservation: Shape) => reservation.Instances[0].InstanceId,
      );
    const filter = (Name: string, ...Values: string[]) => ({ Name, Values });
    expect(await found(filter('tag:keeper:role', 'host'))).toEqual([first.id, second.id]);
    expect(await found(filter('tag:keeper:execution', 't*'))).toEqual([second.id]);
    expect(await found(filter('tag-key', 'keeper:execution'), filter('instance-id', first.id))).toEqual([first.id]);
    expect(await found(filter('instance-state-name', 'pending', 'stopped'))).toEqual([]);
    const address = second.host.addresses[0] ?? '';
    expect(await found(filter('network-interface.addresses.private-ip-address', address))).toEqual([second.id]);
    await expect(found(filter('hypervisor', 'xen'))).rejects.toThrow(NotModelled);
  });

  it('pages, also when nothing on a page passes the filters', async () => {
    const fixture = await Ec2Fixture.create();
    for (let i = 0; i < 7; i++) await fixture.launch({ lifecycle: 'on-demand' });
    const { id } = await fixture.launch();
    const Filters = [{ Name: 'instance-lifecycle', Values: ['spot'] }];
    const first = await fixture.call('DescribeInstances', { Filters, MaxResults: 5 });
    expect(first.Reservations).toEqual([]);
    const second = await fixture.call('DescribeInstances', { Filters, MaxResults: 5, NextToken: first.NextToken });
    expect(second.Reservations[0].Instances[0].InstanceId).toBe(id);
    expect(second.NextToken).toBeUndefined();
    expect(await fixture.errorOf('DescribeInstances', { MaxResults: 4 })).toBe('InvalidParameterValue');
  });

  it('throttles unfiltered calls sooner than filtered ones', async () => {
    const fixture = await Ec2Fixture.create({ onLatency: () => 0 });
    const burst = async (input: Shape) => {
      const calls = Array.from({ length: 60 }, () => fixture.start('DescribeInstances', input));
      const results = await fixture.clock.run(Promise.allSettled(calls));
      return results.filter(({ status }) => status === 'rejected').length;
    };
    expect(await burst({ Filters: [{ Name: 'instance-state-name', Values: ['running'] }] })).toBe(0);
    expect(await burst({})).toBe(10);
    expect(await fixture.errorOf('DescribeInstances', {})).toBe('RequestLimitExceeded');
  });

  it('has the offerings of types in zones beside it', async () => {
    const fixture = await Ec2Fixture.create();
    fixture.ec2.offering('t4g.small', 'us-east-1a', false);
    const offered = async (type: string, zone: string) => {
      const filter = (Name: string, value: string) => ({ Name, Values: [value] });
      const { InstanceTypeOfferings } = await fixture.call('DescribeInstanceTypeOfferings', {
        LocationType: 'availability-zone',
        Filters: [filter('instance-type', type), filter('location', zone)],
      });
      return InstanceTypeOfferings;
    };
    expect(await offered('t4g.small', 'us-east-1a')).toEqual([]);
    expect(await offered('t4g.small', 'us-east-1b')).toEqual([
      { InstanceType: 't4g.small', LocationType: 'availability-zone', Location: 'us-east-1b' },
    ]);
    expect(await offered('t9g.small', 'us-east-1b')).toEqual([]);
    fixture.ec2.offering('t4g.small', 'us-east-1a', true);
    expect(await offered('t4g.small', 'us-east-1a')).toHaveLength(1);
    await expect(fixture.call('DescribeInstanceTypeOfferings', {})).rejects.toThrow(NotModelled);
  });

  it('tells a wrong name of an instance type from a filter that nothing passes', async () => {
    const fixture = await Ec2Fixture.create();
    await expect(
      fixture.call('DescribeInstanceTypes', { InstanceTypes: ['t4g.small', 't9g.small'] }),
    ).rejects.toMatchObject({
      code: 'InvalidInstanceType',
      message: 'The following supplied instance types do not exist: [t9g.small]',
    });
    const Filters = [{ Name: 'instance-type', Values: ['t9g.small', 't4g.micro'] }];
    const { InstanceTypes } = await fixture.call('DescribeInstanceTypes', { Filters });
    expect(InstanceTypes.map((type: Shape) => type.InstanceType)).toEqual(['t4g.micro']);
  });

  it('has instance types beside it, with what a choice between them needs', async () => {
    const fixture = await Ec2Fixture.create();
    const { InstanceTypes } = await fixture.call('DescribeInstanceTypes', { InstanceTypes: ['t4g.small'] });
    expect(InstanceTypes).toMatchObject([
      { ProcessorInfo: { SupportedArchitectures: ['arm64'] }, MemoryInfo: { SizeInMiB: 2048 } },
    ]);
  });

  it('shows a Spot host with its addresses, root volume and profile', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    const instance = await fixture.describe(id);
    expect(instance).toMatchObject({
      InstanceLifecycle: 'spot',
      InstanceType: 't4g.small',
      SubnetId: fixture.subnetA,
      Placement: { AvailabilityZone: 'us-east-1a' },
      IamInstanceProfile: { Arn: 'arn:aws:iam::123456789012:instance-profile/host' },
      PrivateIpAddress: host.identity.privateIp,
      BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { Status: 'attached', DeleteOnTermination: true } }],
    });
    expect(instance.SpotInstanceRequestId).toMatch(/^sir-/);
    expect(instance.NetworkInterfaces[0]).toMatchObject({
      NetworkInterfaceId: host.identity.interfaceId,
      Status: 'in-use',
      Attachment: { Status: 'attached' },
      PrivateIpAddresses: [{ PrivateIpAddress: host.identity.privateIp, Primary: true }],
    });
    expect(instance.NetworkInterfaces[0].Association.PublicIp).toMatch(/^203\.0\.113\./);
  });
});

describe('Spot interruptions', () => {
  it('recommend, warn, and shut down after the notice, each as documented', async () => {
    const fixture = await Ec2Fixture.create();
    const { id, host } = await fixture.launch();
    fixture.events.length = 0;
    fixture.ec2.interrupt(id, { rebalanceSecondsBefore: 60 });
    await fixture.clock.pass(61_000);
    expect(fixture.events).toMatchObject([
      {
        version: '0',
        'detail-type': 'EC2 Instance Rebalance Recommendation',
        resources: [`arn:aws:ec2:us-east-1:123456789012:instance/${id}`],
        detail: { 'instance-id': id },
      },
      {
        version: '0',
        'detail-type': 'EC2 Spot Instance Interruption Warning',
        resources: [`arn:aws:ec2:us-east-1a:instance/${id}`],
        detail: { 'instance-id': id, 'instance-action': 'terminate' },
      },
    ]);
    await fixture.clock.pass(118_000);
    expect((await fixture.describe(id)).State.Name).toBe('running');
    await fixture.clock.pass(3000);
    expect((await fixture.describe(id)).StateReason.Code).toBe('Server.SpotInstanceTermination');
    await fixture.clock.pass(120_000);
    expect(host.told).toContain('shutdown os');
    expect(fixture.ec2.machine(id)?.state).toBe('terminated');
  });

  it('say nothing of an instance that was terminated between the recommendation and the notice', async () => {
    const fixture = await Ec2Fixture.create();
    const { id } = await fixture.launch();
    fixture.ec2.interrupt(id, { rebalanceSecondsBefore: 60 });
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(300_000);
    const types = fixture.events.map((event) => event['detail-type']);
    expect(types).toContain('EC2 Instance Rebalance Recommendation');
    expect(types).not.toContain('EC2 Spot Instance Interruption Warning');
  });

  it('leave an instance alone that its owner terminated during the notice', async () => {
    const fixture = await Ec2Fixture.create();
    const { id } = await fixture.launch();
    fixture.ec2.interrupt(id);
    await fixture.clock.pass(30_000);
    await fixture.call('TerminateInstances', { InstanceIds: [id] });
    await fixture.clock.pass(300_000);
    expect((await fixture.describe(id)).StateReason.Code).toBe('Client.UserInitiatedShutdown');
    expect(fixture.happened('instance-state', id, 'state').filter((state) => state === 'shutting-down')).toHaveLength(
      1,
    );
  });
});

describe('CreateFleet', () => {
  it('starts the cheapest type that has capacity', async () => {
    const fixture = await Ec2Fixture.create();
    fixture.ec2.capacity('t4g.small', 'spot', false);
    const answer = await fixture.call(
      'CreateFleet',
      fixture.fleet({
        types: ['r6g.medium', 't4g.medium', 't4g.small'],
        SpotOptions: { AllocationStrategy: 'price-capacity-optimized' },
      }),
    );
    expect(answer.Errors).toEqual([]);
    expect(answer.Instances).toMatchObject([{ InstanceType: 't4g.medium', Lifecycle: 'spot' }]);
    expect(answer.Instances[0].LaunchTemplateAndOverrides).toMatchObject({
      LaunchTemplateSpecification: { LaunchTemplateId: fixture.template, Version: '1' },
      Overrides: { InstanceType: 't4g.medium', SubnetId: fixture.subnetA },
    });
  });

  it('goes by priority when it is told to', async () => {
    const fixture = await Ec2Fixture.create();
    const { Instances } = await fixture.call(
      'CreateFleet',
      fixture.fleet({
        types: ['m7g.medium', 't4g.nano'],
        lifecycle: 'on-demand',
        OnDemandOptions: { AllocationStrategy: 'prioritized' },
      }),
    );
    expect(Instances[0].InstanceType).toBe('m7g.medium');
  });

  it.each([
    ['spot', { SpotOptions: { AllocationStrategy: 'price-capacity-optimized' } }, 'UnfulfillableCapacity'],
    ['on-demand', {}, 'InsufficientInstanceCapacity'],
  ])('answers with errors and no instance when there is no %s capacity', async (lifecycle, options, code) => {
    const fixture = await Ec2Fixture.create();
    fixture.ec2.capacity('t4g.small', lifecycle === 'spot' ? 'spot' : 'on-demand', 0);
    const answer = await fixture.call('CreateFleet', fixture.fleet({ lifecycle, ...options }));
    expect(answer.Instances).toEqual([]);
    expect(answer.Errors).toMatchObject([{ ErrorCode: code, Lifecycle: lifecycle }]);
  });

  it('uses capacity up', async () => {
    const fixture = await Ec2Fixture.create();
    fixture.ec2.capacity('t4g.small', 'spot', 1);
    expect((await fixture.call('CreateFleet', fixture.fleet())).Instances).toHaveLength(1);
    expect((await fixture.call('CreateFleet', fixture.fleet())).Instances).toHaveLength(0);
  });

  it('gives the same answer for the same token, and refuses another request with it', async () => {
    const fixture = await Ec2Fixture.create();
    const first = await fixture.call('CreateFleet', fixture.fleet({ ClientToken: 'one' }));
    expect(await fixture.call('CreateFleet', fixture.fleet({ ClientToken: 'one' }))).toEqual(first);
    expect(fixture.ec2.machines()).toHaveLength(1);
    expect(await fixture.errorOf('CreateFleet', fixture.fleet({ ClientToken: 'one', lifecycle: 'on-demand' }))).toBe(
      'IdempotentParameterMismatch',
    );
  });

  it('prefers the user data of the launch, and refuses more than 16 KB of it', async () => {
    const fixture = await Ec2Fixture.create();
    const { host } = await fixture.launch({ userData: 'this launch' });
    expect(host.told).toEqual(['boot this launch']);
    expect(await fixture.errorOf('CreateFleet', fixture.fleet({ userData: 'x'.repeat(16 * 1024) }))).toBe('none');
    expect(await fixture.errorOf('CreateFleet', fixture.fleet({ userData: 'x'.repeat(16 * 1024 + 1) }))).toBe(
      'InvalidParameterValue',
    );
  });

  it('tags the instance, its volume and its interface at launch', async () => {
    const fixture = await Ec2Fixture.create();
    const of = (ResourceType: string, Value: string) => ({ ResourceType, Tags: [{ Key: 'part', Value }] });
    const { id } = await fixture.launch({
      TagSpecifications: [of('instance', 'i'), of('volume', 'v'), of('fleet', 'f')],
    });
    const instance = await fixture.describe(id);
    expect(instance.Tags).toContainEqual({ Key: 'part', Value: 'i' });
    expect(instance.Tags).toContainEqual({ Key: 'keeper:role', Value: 'host' });
    const root = await fixture.describeVolume(instance.BlockDeviceMappings[0].Ebs.VolumeId);
    expect(root.Tags).toEqual([{ Key: 'part', Value: 'v' }]);
  });

  it('reports an image of another architecture, and refuses what does not exist', async () => {
    const fixture = await Ec2Fixture.create();
    const template = await fixture.launchTemplate({ ImageId: X86_IMAGE });
    const { Errors, Instances } = await fixture.call('CreateFleet', fixture.fleet({ template }));
    expect(Instances).toEqual([]);
    expect(Errors[0].ErrorMessage).toContain("architecture 'arm64'");
    const errorOf = (changes: Shape) => fixture.errorOf('CreateFleet', fixture.fleet(changes));
    expect(await errorOf({ types: ['t9g.small'] })).toBe('InvalidParameterValue');
    expect(await errorOf({ template: 'lt-0123456789abcdef0' })).toBe('InvalidLaunchTemplateId.NotFound');
    const unknownImage = await fixture.launchTemplate({ ImageId: 'ami-0123456789abcdef0' });
    expect(await errorOf({ template: unknownImage })).toBe('InvalidAMIID.NotFound');
  });

  it('launches the image that the request names instead of the template', async () => {
    const fixture = await Ec2Fixture.create();
    const newer = 'ami-0cccccccccccccccc';
    fixture.ec2.registerImage({ imageId: newer, architecture: 'arm64', rootDeviceName: '/dev/xvda', rootGiB: 8 });
    const request = fixture.fleet();
    request.LaunchTemplateConfigs[0].Overrides[0].ImageId = newer;
    const { Instances } = await fixture.call('CreateFleet', request);
    expect(Instances[0].LaunchTemplateAndOverrides.Overrides.ImageId).toBe(newer);
    await fixture.clock.pass(10_000);
    expect((await fixture.describe(Instances[0].InstanceIds[0])).ImageId).toBe(newer);
  });

  it('reports an unknown image of the request for its pool, and launches from another', async () => {
    const fixture = await Ec2Fixture.create();
    const request = fixture.fleet({ types: ['t4g.small', 't4g.medium'] });
    request.LaunchTemplateConfigs[0].Overrides[0].ImageId = 'ami-0123456789abcdef0';
    const { Errors, Instances } = await fixture.call('CreateFleet', request);
    expect(Errors).toMatchObject([{ ErrorCode: 'InvalidAMIID.NotFound' }]);
    expect(Instances).toMatchObject([{ InstanceType: 't4g.medium' }]);
    request.LaunchTemplateConfigs[0].Overrides[0].ImageId = 'resolve:ssm:/some/parameter';
    await expect(fixture.call('CreateFleet', request)).rejects.toThrow(NotModelled);
  });

  it('reports a type that its zone does not have', async () => {
    const fixture = await Ec2Fixture.create();
    fixture.ec2.offering('t4g.small', 'us-east-1a', false);
    const { Errors, Instances } = await fixture.call('CreateFleet', fixture.fleet());
    expect(Instances).toEqual([]);
    expect(Errors).toMatchObject([
      {
        ErrorCode: 'InvalidFleetConfiguration',
        ErrorMessage:
          'Your requested instance type (t4g.small) is not supported in your requested Availability Zone (us-east-1a).',
      },
    ]);
  });

  it('refuses what the model does not honour', async () => {
    const fixture = await Ec2Fixture.create();
    await expect(fixture.call('CreateFleet', { ...fixture.fleet(), Context: 'x' })).rejects.toThrow(NotModelled);
    await expect(fixture.launchTemplate({ HibernationOptions: { Configured: true } })).rejects.toThrow(NotModelled);
  });

  it('launches from the newest version of a template, and describes each version', async () => {
    const fixture = await Ec2Fixture.create();
    const handler = fixture.ec2.handlers['AWS::EC2::LaunchTemplate'];
    const stack = { stackName: 'test', physicalName: (id: string) => id, assetPath: undefined };
    const given = { LaunchTemplateData: { ImageId: X86_IMAGE } };
    const created = await handler?.create('Template', given, stack);
    if (!handler?.update || !created) throw new Error('launch templates can be made and updated');
    await handler.update(
      created,
      { LaunchTemplateData: { ImageId: X86_IMAGE, InstanceType: 't3.small' } },
      given,
      stack,
    );
    expect(created.attributes).toMatchObject({ LatestVersionNumber: '2', DefaultVersionNumber: '1' });
    const { LaunchTemplateVersions } = await fixture.call('DescribeLaunchTemplateVersions', {
      LaunchTemplateId: created.ref,
      Versions: ['$Latest', '$Default'],
    });
    expect(LaunchTemplateVersions).toMatchObject([
      { VersionNumber: 2, LaunchTemplateData: { InstanceType: 't3.small' } },
      { VersionNumber: 1, DefaultVersion: true },
    ]);
  });
});
