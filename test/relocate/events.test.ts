import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { AwsEvent } from '../../drill/cloud/kernel.ts';
import type { Simulation } from '../../drill/simulation.ts';
import { start } from './play.ts';

/** The event as AWS documents it, of this instance and this moment. */
function sample(
  simulation: Simulation,
  name: 'interruption-warning' | 'rebalance-recommendation' | 'state-change',
  instanceId: string,
): AwsEvent {
  const file = new URL(`../../functions/on-interruption/${name}.sample.json`, import.meta.url);
  const text = readFileSync(file, 'utf8').replaceAll(/i-(1234567890abcdef0|abcd1111)/g, instanceId);
  return { ...JSON.parse(text), time: new Date(simulation.clock.now()).toISOString() };
}

function logged(simulation: Simulation, message: string): boolean {
  return simulation.local.cloud.happenings.some(
    ({ kind, detail }) => kind === 'log' && String(detail['line']).includes(message),
  );
}

/** An instance of somebody else in the same account: without tags, or with tags of another owner. */
async function launchForeign(simulation: Simulation, tags: Record<string, string>): Promise<string> {
  const { local, clock } = simulation;
  const template = local.ec2.machine(simulation.holder)?.identity;
  if (!template) throw new Error('no host');
  const call = (operation: string, input: object) =>
    clock.run(local.cloud.call({ service: 'ec2', operation, input, caller: local.iam.administrator }));
  const { Reservations } = await call('DescribeInstances', { InstanceIds: [simulation.holder] });
  const { ImageId, SubnetId } = Reservations[0].Instances[0];
  const { LaunchTemplateVersions } = await call('DescribeLaunchTemplateVersions', {
    LaunchTemplateId: launchTemplateId(simulation),
    Versions: ['$Latest'],
  });
  expect(LaunchTemplateVersions[0].LaunchTemplateData.ImageId).toBe(ImageId);
  const fleet = await call('CreateFleet', {
    Type: 'instant',
    LaunchTemplateConfigs: [
      {
        LaunchTemplateSpecification: { LaunchTemplateId: launchTemplateId(simulation), Version: '$Latest' },
        Overrides: [{ InstanceType: 't4g.small', SubnetId }],
      },
    ],
    TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'spot' },
    SpotOptions: { AllocationStrategy: 'price-capacity-optimized' },
  });
  const id = fleet.Instances[0].InstanceIds[0];
  await simulation.pass(15);
  await call('DeleteTags', { Resources: [id], Tags: [{ Key: 'keeper:database' }, { Key: 'keeper:role' }] });
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  if (Tags.length > 0) await call('CreateTags', { Resources: [id], Tags });
  return id;
}

function launchTemplateId(simulation: Simulation): string {
  const call = simulation.local.cloud.happenings.find(
    ({ kind, subject }) => kind === 'call' && subject === 'ec2:CreateFleet',
  );
  const input = call?.detail['input'] as {
    LaunchTemplateConfigs: { LaunchTemplateSpecification: { LaunchTemplateId: string } }[];
  };
  return input.LaunchTemplateConfigs[0]?.LaunchTemplateSpecification.LaunchTemplateId ?? '';
}

describe('the events, exactly as AWS documents them', () => {
  it.each(['interruption-warning', 'rebalance-recommendation'] as const)(
    '%s starts one relocation of the host that it names',
    async (name) => {
      const simulation = await start();
      const source = simulation.holder;
      simulation.local.cloud.emit(sample(simulation, name, source));
      await simulation.settle();
      expect(simulation.endings).toMatchObject([{ name: `lighthouse-${source}`, status: 'SUCCEEDED' }]);
      expect(simulation.holder).not.toBe(source);
      expect(simulation.violations()).toEqual([]);
    },
  );

  it.each([
    ['recommendation first', ['rebalance-recommendation', 'interruption-warning']],
    ['warning first', ['interruption-warning', 'rebalance-recommendation']],
  ] as const)('both, the %s and seconds apart, are one relocation', async (_, names) => {
    const simulation = await start();
    const source = simulation.holder;
    for (const name of names) {
      simulation.local.cloud.emit(sample(simulation, name, source));
      await simulation.pass(3);
    }
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ name: `lighthouse-${source}`, status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('after a relocation that failed start another one', async () => {
    const simulation = await start();
    const { local, clock } = simulation;
    const source = simulation.holder;
    local.cloud.emit(sample(simulation, 'rebalance-recommendation', source));
    await simulation.pass(5);
    const executionArn = local.states.executions.at(-1)?.arn;
    await clock.run(
      local.cloud.call({
        service: 'states',
        operation: 'StopExecution',
        input: { executionArn },
        caller: local.iam.administrator,
      }),
    );
    local.cloud.emit(sample(simulation, 'interruption-warning', source));
    await simulation.settle();
    expect(simulation.endings.map(({ name, status }) => [name, status])).toEqual([
      [`lighthouse-${source}`, 'ABORTED'],
      [`lighthouse-${source}-again`, 'SUCCEEDED'],
    ]);
    expect(simulation.holder).not.toBe(source);
  });
});

describe('a change of state', () => {
  const change = (simulation: Simulation, instanceId: string, state: string): AwsEvent => {
    const event = sample(simulation, 'state-change', instanceId);
    return { ...event, detail: { ...event.detail, state } };
  };

  it.each(['stopping', 'stopped', 'shutting-down', 'terminated'])(
    'to %s of the host that serves starts its relocation',
    async (state) => {
      const simulation = await start();
      const source = simulation.holder;
      simulation.local.cloud.emit(change(simulation, source, state));
      await simulation.settle();
      expect(simulation.endings).toMatchObject([{ name: `lighthouse-${source}`, status: 'SUCCEEDED' }]);
      expect(simulation.violations()).toEqual([]);
    },
  );

  it.each(['pending', 'running'])('to %s starts nothing', async (state) => {
    const simulation = await start();
    simulation.local.cloud.emit(change(simulation, simulation.holder, state));
    await simulation.settle();
    expect(simulation.endings).toEqual([]);
  });

  it('of a host that was left on purpose starts nothing', async () => {
    const simulation = await start();
    simulation.local.cloud.emit(sample(simulation, 'rebalance-recommendation', simulation.holder));
    await simulation.settle();
    expect(simulation.endings).toHaveLength(1);
    expect(logged(simulation, 'nothing to do for this instance')).toBe(true);
  });
});

describe('an event that does not concern Keeper', () => {
  it.each([
    ['without tags', {}],
    ['of another owner', { Owner: 'somebody', 'keeper:database': 'not-deployed-here', 'keeper:role': 'host' }],
  ])('because the instance is %s is acknowledged and logged, and nothing is touched', async (_, tags) => {
    const simulation = await start();
    const foreign = await launchForeign(simulation, tags);
    const source = simulation.holder;
    simulation.local.cloud.emit(sample(simulation, 'interruption-warning', foreign));
    await simulation.pass(60);
    expect(logged(simulation, 'nothing to do for this instance')).toBe(true);
    expect(simulation.endings).toEqual([]);
    expect(simulation.holder).toBe(source);
    expect(simulation.local.ec2.machine(foreign)?.state).toBe('running');
    expect(simulation.watch.broken).toEqual([]);
    expect(simulation.local.sqs.messages).toEqual([]);
  });

  it('because the instance no longer exists is acknowledged and logged', async () => {
    const simulation = await start();
    simulation.local.cloud.emit(sample(simulation, 'interruption-warning', 'i-0fedcba9876543210'));
    await simulation.pass(60);
    expect(logged(simulation, 'nothing to do for this instance')).toBe(true);
    expect(simulation.endings).toEqual([]);
    expect(simulation.local.sqs.messages).toEqual([]);
  });
});

describe('an event that AWS does not document', () => {
  it('is tried again, and kept in the dead-letter queue', async () => {
    const simulation = await start();
    const event = sample(simulation, 'interruption-warning', simulation.holder);
    simulation.local.cloud.emit({
      ...event,
      detail: { 'instance-id': 'not an instance', 'instance-action': 'terminate' },
    });
    await simulation.pass(600);
    expect(simulation.endings).toEqual([]);
    expect(simulation.local.sqs.messages).toHaveLength(1);
    expect(JSON.stringify(simulation.local.sqs.messages)).toContain('not an instance');
  });
});

describe('a database whose hosts are in several reservations', () => {
  it('is seen whole: a warning for the second one moves the database of the second one', async () => {
    const simulation = await start();
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    const second = simulation.holder;
    simulation.local.ec2.interrupt(second);
    await simulation.settle();
    expect(simulation.endings.map(({ name }) => name)).toContain(`lighthouse-${second}`);
    expect(simulation.violations()).toEqual([]);
  });
});
