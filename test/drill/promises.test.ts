import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import type { ServiceName, Shape } from '../../drill/cloud/kernel.ts';
import { ModelledHosts } from '../../drill/hosts/modelled.ts';
import { createLocalCloud } from '../../drill/local-cloud.ts';
import { PromiseWatch } from '../../drill/promises.ts';

const tags = (role: string) => [
  { Key: 'keeper:database', Value: 'lighthouse' },
  { Key: 'keeper:role', Value: role },
];

/** A live volume, and a way to launch scratch hosts with a clone of it. */
async function setUp() {
  const clock = new VirtualClock();
  const local = await createLocalCloud({ clock, seed: 1, hosts: (cloud) => new ModelledHosts(cloud) });
  const watch = new PromiseWatch(local, 'lighthouse');
  const call = (service: ServiceName, operation: string, input: Shape) =>
    clock.run(local.cloud.call({ service, operation, input, caller: local.iam.administrator }));
  const stack = { stackName: 'Keeper', physicalName: (id: string) => `Keeper-${id}`, assetPath: undefined };
  const resource = async (type: string, properties: Shape) => {
    const handler = local.iam.handlers[type] ?? local.ec2.handlers[type];
    const created = await clock.run((async () => handler?.create('Resource', properties, stack))());
    return created?.ref ?? '';
  };
  const volume = await resource('AWS::EC2::Volume', {
    AvailabilityZone: 'us-east-1a',
    Size: 20,
    VolumeType: 'gp3',
    Tags: tags('data'),
  });
  await call('ssm', 'PutParameter', { Name: '/keeper/lighthouse/volume-id', Type: 'String', Value: volume });
  const trust = { Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 'ec2.amazonaws.com' } };
  const role = await resource('AWS::IAM::Role', {
    AssumeRolePolicyDocument: { Version: '2012-10-17', Statement: [trust] },
  });
  const image = local.ssm.parameterValue('/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64');
  const template = await resource('AWS::EC2::LaunchTemplate', {
    LaunchTemplateData: {
      ImageId: image,
      InstanceType: 't4g.small',
      IamInstanceProfile: { Name: await resource('AWS::IAM::InstanceProfile', { Roles: [role] }) },
      TagSpecifications: ['instance', 'volume'].map((ResourceType) => ({ ResourceType, Tags: tags('scratch') })),
    },
  });
  const subnet = await resource('AWS::EC2::Subnet', {
    VpcId: await resource('AWS::EC2::VPC', { CidrBlock: '10.0.0.0/24' }),
    CidrBlock: '10.0.0.0/24',
    AvailabilityZone: 'us-east-1a',
  });
  await clock.pass(60_000);
  const { SnapshotId } = await call('ec2', 'CreateSnapshot', { VolumeId: volume });
  await clock.pass(3_600_000);
  const launchScratch = async (DeleteOnTermination = true): Promise<string> => {
    const Ebs = { SnapshotId, VolumeType: 'gp3', DeleteOnTermination };
    const { Instances } = await call('ec2', 'CreateFleet', {
      Type: 'instant',
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: { LaunchTemplateId: template, Version: '$Latest' },
          Overrides: [{ SubnetId: subnet, BlockDeviceMappings: [{ DeviceName: '/dev/sdf', Ebs }] }],
        },
      ],
      TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'spot' },
    });
    await clock.pass(5_000);
    return Instances[0].InstanceIds[0];
  };
  const terminate = async (id: string) => {
    await call('ec2', 'TerminateInstances', { InstanceIds: [id] });
    await clock.pass(300_000);
  };
  return { local, watch, launchScratch, terminate };
}

describe('a scratch host', () => {
  it('is an orphan when nothing runs any more; its clone is its own, and ends with it', async () => {
    const { local, watch, launchScratch, terminate } = await setUp();
    const id = await launchScratch();
    expect(local.ec2.volumes()).toHaveLength(2);
    expect(watch.orphans()).toEqual([expect.stringMatching(new RegExp(`^${id} .* serves nothing$`))]);
    await terminate(id);
    expect(watch.orphans()).toEqual([]);
    expect(watch.broken).toEqual([]);
  });

  it('leaves an orphan when its clone outlives it', async () => {
    const { watch, launchScratch, terminate } = await setUp();
    await terminate(await launchScratch(false));
    expect(watch.orphans()).toEqual([expect.stringMatching(/^vol-.* is not the live volume$/)]);
  });
});
