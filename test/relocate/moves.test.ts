import { describe, expect, it } from 'vitest';
import { AwsError } from '../../drill/cloud/kernel.ts';
import type { Simulation } from '../../drill/simulation.ts';
import { exhaust, failCalls, start, untilHour, untilOnAnotherThan } from './play.ts';

const ADDRESS = '10.77.0.16';

function machineOf(simulation: Simulation, instanceId = simulation.holder) {
  return simulation.local.ec2.machine(instanceId);
}

function recordedHost({ local }: Simulation): { instanceTypes: string[]; image: string; ami: string } {
  const value = (field: string) => local.ssm.parameterValue(`/keeper/lighthouse/host/${field}`);
  return { instanceTypes: value('instance-types').split(','), image: value('image'), ami: value('ami') };
}

function volumeOf(simulation: Simulation) {
  return simulation.local.hosts.volume(simulation.watch.liveVolume()?.volumeId ?? '');
}

/** The documents that were sent to hosts. */
function commandsRun({ local }: Simulation): unknown[] {
  return local.cloud.happenings.filter(({ kind }) => kind === 'command').map(({ detail }) => detail['document']);
}

describe('a host that is lost', () => {
  it.each([
    ['a person terminates it', {}],
    ['it loses power', { SkipOsShutdown: true }],
  ])('because %s is replaced within a minute, and nothing is lost', async (_, how) => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [source], ...how });
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ name: `lighthouse-${source}`, status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(60_000);
  });

  it('comes back within two minutes and a relocation when every event is lost', async () => {
    const simulation = await start({
      faults: { onEvent: ({ source }) => (source === 'aws.ec2' ? { delaysMs: [] } : undefined) },
    });
    const source = simulation.holder;
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [source], SkipOsShutdown: true });
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(120_000 + 60_000);
  });

  it("because its hardware fails is fenced once EC2's status checks say so, and nothing is lost", async () => {
    const simulation = await start();
    const source = simulation.holder;
    await simulation.clock.run(simulation.local.ec2.failHost(source));
    await simulation.pass(300);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([
      { status: 'SUCCEEDED', output: expect.stringContaining('status checks') },
    ]);
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
  });

  it('because its guest hangs is fenced, and the volume moves only after that', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.hosts.hang(source);
    await simulation.pass(300);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(machineOf(simulation, source)?.state).toBe('terminated');
    expect(simulation.violations()).toEqual([]);
  });
});

describe('a volume that was released and is not taken away', () => {
  const released = ({ local }: Simulation) =>
    local.cloud.happenings.some(
      ({ kind, detail }) =>
        kind === 'command' && String(detail['document']).endsWith('-release') && detail['phase'] === 'ended',
    );

  it('because EC2 refuses it for ten minutes is moved on after that', async () => {
    const broken = new AwsError('InternalFailure', 'An internal error has occurred', 500);
    const simulation = await start({ faults: failCalls('ec2:DetachVolume', broken, 0, 200) });
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source, { noticeSeconds: 86_400, rebalanceSecondsBefore: 86_400 });
    await simulation.pass(600);
    simulation.local.cloud.faults = {};
    await simulation.pass(300);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
  });

  it('because its relocation was stopped right then is moved by reconcile', async () => {
    const simulation = await start();
    const { local } = simulation;
    const source = simulation.holder;
    local.cloud.faults = {
      onCall: ({ operation, caller }) =>
        operation === 'DetachVolume' && caller.invocation ? { kill: 'before' } : undefined,
    };
    local.ec2.interrupt(source, { noticeSeconds: 86_400, rebalanceSecondsBefore: 86_400 });
    while (!released(simulation)) await simulation.pass(0.5);
    const running = local.states.executions.findLast(({ status }) => status === 'RUNNING');
    simulation.asPerson('states', 'StopExecution', { executionArn: running?.arn });
    await simulation.pass(5);
    local.cloud.faults = {};
    await simulation.pass(20 * 60);
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(240_000);
  });
});

describe('a scale-up', () => {
  it('to another type and a larger volume keeps every row, and later hosts are as large', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { database: 'lighthouse', instanceType: 't4g.medium', volumeGiB: 100 });
    await simulation.settle();

    expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(machineOf(simulation)?.identity.instanceType).toBe('t4g.medium');
    expect(simulation.holder).not.toBe(source);
    expect(volumeOf(simulation)).toMatchObject({ sizeGiB: 100, fileSystemGiB: 100 });
    expect(recordedHost(simulation).instanceTypes).toEqual([
      't4g.medium',
      'm7g.medium',
      'm6g.medium',
      'r7g.medium',
      'r6g.medium',
    ]);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(15_000);

    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(recordedHost(simulation).instanceTypes).toContain(machineOf(simulation)?.identity.instanceType);
    expect(simulation.violations()).toEqual([]);
  });

  it('leaves out the name of the database where there is only one', async () => {
    const simulation = await start();
    simulation.startWorkflow('scale-up', { volumeGiB: 30 });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
  });

  it('of the volume alone moves nothing and interrupts nobody', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { volumeGiB: 30 });
    await simulation.settle();
    expect(simulation.endings).toEqual([]);
    expect(simulation.holder).toBe(source);
    expect(volumeOf(simulation)).toMatchObject({ sizeGiB: 30, fileSystemGiB: 30 });
    expect(simulation.downtime()).toBe(0);
    expect(simulation.violations()).toEqual([]);
  });

  it('that is refused changes nothing, and says why', async () => {
    const simulation = await start();
    simulation.startWorkflow('scale-up', { instanceType: 't4g.nano', volumeGiB: 10 });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'FAILED', error: 'Refused' }]);
    expect(simulation.runbooks[0]?.cause).toMatch(/t4g\.nano[\s\S]*10/);
    expect(simulation.local.ec2.snapshots()).toEqual([]);
    expect(simulation.violations()).toEqual([]);
  });

  it('to a type without capacity is called off, and the source serves on', async () => {
    const simulation = await start();
    const source = simulation.holder;
    for (const lifecycle of ['spot', 'on-demand'] as const)
      simulation.local.ec2.capacity('t4g.medium', lifecycle, false);
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'FAILED', error: 'CalledOff' }]);
    expect(simulation.runbooks).toMatchObject([{ status: 'FAILED', error: 'NotMoved' }]);
    expect(simulation.runbooks[0]?.cause).toMatch(/serves on, nothing has been changed; NoCapacity: .*t4g\.medium/);
    expect(simulation.holder).toBe(source);
    expect(simulation.downtime()).toBe(0);
    expect(simulation.violations()).toEqual([]);
  });

  it.each([['postgresDoesNotStart'], ['mountFails'], ['hangsDuringTakeover']] as const)(
    'whose new host fails with %s goes back to the source, and fails with both reasons',
    async (fault) => {
      const simulation = await start({ hostFaults: (number) => (number === 0 ? [fault] : []) });
      const source = simulation.holder;
      simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
      await simulation.settle();
      expect(simulation.holder).toBe(source);
      expect(simulation.endings).toMatchObject([{ status: 'FAILED', error: 'WentBack' }]);
      expect(simulation.endings[0]?.cause).toMatch(
        new RegExp(`^the database serves on ${source} again; i-\\w+ did not serve: `),
      );
      expect(simulation.runbooks).toMatchObject([{ status: 'FAILED', cause: simulation.endings[0]?.cause }]);
      expect(recordedHost(simulation).instanceTypes[0]).toBe('t4g.small');
      expect(simulation.local.hosts.servingHost(ADDRESS)).toBe(source);
      expect(simulation.violations()).toEqual([]);
    },
  );

  it('whose new host does not serve, and whose source does not take the database back, ends on a host as before', async () => {
    const simulation = await start({
      hostFaults: (number) => (number === 0 ? ['takeoverAgainFails'] : number === 1 ? ['postgresDoesNotStart'] : []),
    });
    // The second takeover of the present host would not fail: it is to be one that does.
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(recordedHost(simulation).instanceTypes[0]).toBe('t4g.small');
    expect(simulation.endings.find(({ name }) => name.includes('-scale-up-'))).toMatchObject({
      status: 'FAILED',
      error: 'NotAsPlanned',
      cause: expect.stringMatching(/which is made as before; i-\w+ did not serve: .*; i-\w+ did not serve: /),
    });
    expect(simulation.violations()).toEqual([]);
  });

  it.each([1, 5, 20, 36, 40, 44])(
    'with a Spot notice %i s after its beginning ends serving, and nothing is lost',
    async (seconds) => {
      const simulation = await start();
      const source = simulation.holder;
      simulation.startWorkflow('scale-up', { instanceType: 't4g.medium', volumeGiB: 30 });
      await simulation.pass(seconds);
      simulation.local.ec2.interrupt(source);
      await simulation.pass(180);
      await simulation.settle();
      expect(simulation.holder).not.toBe(source);
      expect(simulation.runbooks[0]?.status).not.toBe('RUNNING');
      if (simulation.runbooks[0]?.status === 'SUCCEEDED')
        expect(machineOf(simulation)?.identity.instanceType).toBe('t4g.medium');
      expect(volumeOf(simulation)?.fileSystemGiB).toBe(volumeOf(simulation)?.sizeGiB);
      expect(simulation.violations()).toEqual([]);
    },
  );

  it.each([2, 8, 14])(
    'of the volume alone with a Spot notice %i s after its beginning grows on whichever host',
    async (seconds) => {
      const simulation = await start();
      simulation.startWorkflow('scale-up', { volumeGiB: 30 });
      await simulation.pass(seconds);
      simulation.local.ec2.interrupt(simulation.holder);
      await simulation.pass(180);
      await simulation.settle();
      expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
      expect(volumeOf(simulation)).toMatchObject({ sizeGiB: 30, fileSystemGiB: 30 });
      expect(simulation.violations()).toEqual([]);
    },
  );

  it.each([0.5, 2, 4, 7, 10, 20, 40, 44, 48, 52])(
    'of which everything is stopped after %d s leaves a database that serves, and nothing lying about',
    async (seconds) => {
      const simulation = await start();
      simulation.startWorkflow('scale-up', { instanceType: 't4g.medium', volumeGiB: 30 });
      await simulation.pass(seconds);
      for (const { arn, status } of simulation.local.states.executions) {
        if (status === 'RUNNING') simulation.asPerson('states', 'StopExecution', { executionArn: arn });
      }
      await simulation.pass(25 * 60);
      await simulation.settle();
      expect(simulation.violations()).toEqual([]);
      const { sizeGiB } = volumeOf(simulation) ?? {};
      expect([20, 30]).toContain(sizeGiB);
    },
  );

  it('with a Spot notice for the new host goes on to another one', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    const second = await untilOnAnotherThan(simulation, source);
    simulation.local.ec2.interrupt(second);
    await simulation.pass(180);
    await simulation.settle();
    expect(simulation.holder).not.toBe(second);
    expect(simulation.violations()).toEqual([]);
  });

  it('from a host whose agent is silent is called off, and the database is not touched', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ssm.agentDead(source);
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'FAILED', error: 'CalledOff' }]);
    expect(simulation.endings[0]?.cause).toMatch(new RegExp(`^${source} serves on, nothing has been changed; `));
    expect(simulation.holder).toBe(source);
    expect(simulation.downtime()).toBe(0);
    expect(simulation.violations()).toEqual([]);
  });

  it('whose source has stopped and does not let go, and whose type is gone by then, ends on a host as before', async () => {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['umountHangs'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    while (simulation.serves) await simulation.pass(1);
    for (const { identity, state } of simulation.local.ec2.machines()) {
      const { instanceId, instanceType } = identity;
      if (state === 'running' && instanceType === 't4g.medium' && instanceId !== source)
        simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [instanceId] });
    }
    for (const lifecycle of ['spot', 'on-demand'] as const)
      simulation.local.ec2.capacity('t4g.medium', lifecycle, false);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(300_000);
  });

  it('whose hosts are both lost and cannot be replaced tells people at once', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    await untilOnAnotherThan(simulation, source);
    const InstanceIds = simulation.local.ec2.machines().map(({ identity }) => identity.instanceId);
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds });
    exhaust(simulation, 'spot', 'on-demand');
    await simulation.pass(20 * 60);
    const told = simulation.messages.map(({ subject }) => subject);
    expect(told).toContain('Keeper: no replacement for lighthouse yet');
    for (const type of recordedHost(simulation).instanceTypes) simulation.local.ec2.capacity(type, 'spot', true);
    await simulation.settle();
    expect(simulation.violations()).toEqual([]);
  });

  it('that was called off again and again does not slow down the recovery of a lost host', async () => {
    const simulation = await start({
      faults: { onEvent: ({ source }) => (source === 'aws.ec2' ? { delaysMs: [] } : undefined) },
    });
    for (const lifecycle of ['spot', 'on-demand'] as const)
      simulation.local.ec2.capacity('t4g.medium', lifecycle, false);
    for (let times = 0; times < 4; times++) {
      simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
      await simulation.settle();
    }
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [simulation.holder], SkipOsShutdown: true });
    await simulation.pass(180);
    expect(simulation.serves).toBe(true);
    expect(simulation.downtime()).toBeLessThan(180_000);
  });

  it('whose growth was begun and not finished can be started again', async () => {
    const simulation = await start({
      faults: failCalls('ssm:SendCommand', new AwsError('AccessDeniedException', 'no', 400), 0, 60),
    });
    simulation.startWorkflow('scale-up', { volumeGiB: 30 });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'FAILED', error: 'CommandFailed' }]);
    expect(simulation.runbooks[0]?.cause).toContain('the volume has 30 GiB, its file system has not grown yet');
    expect(volumeOf(simulation)).toMatchObject({ sizeGiB: 30, fileSystemGiB: 20 });
    simulation.local.cloud.faults = {};
    simulation.startWorkflow('scale-up', { volumeGiB: 30 });
    await simulation.settle();
    expect(simulation.runbooks.at(-1)).toMatchObject({ status: 'SUCCEEDED' });
    expect(volumeOf(simulation)).toMatchObject({ sizeGiB: 30, fileSystemGiB: 30 });
    expect(simulation.violations()).toEqual([]);
  });

  it('that is started twice is done once', async () => {
    const simulation = await start();
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium' });
    await simulation.settle();
    expect(simulation.runbooks.map(({ status }) => status).sort()).toEqual(['FAILED', 'SUCCEEDED']);
    expect(simulation.runbooks.find(({ status }) => status === 'FAILED')?.error).toBe('Refused');
    expect(machineOf(simulation)?.identity.instanceType).toBe('t4g.medium');
    expect(simulation.endings).toHaveLength(1);
    expect(simulation.violations()).toEqual([]);
  });
});

describe('a patch', () => {
  const NEWEST = 'ami-00000000000000abc';

  it('moves onto the newest AMI in the window, once a month, and later hosts are made from it', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.publishImage(NEWEST);
    await simulation.pass(300);
    expect(simulation.holder).toBe(source);
    await untilHour(simulation, 3);
    await simulation.pass(300);
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED', name: 'lighthouse-patch-2026-01' }]);
    expect(recordedHost(simulation)).toMatchObject({ ami: NEWEST });
    simulation.local.publishImage('ami-00000000000000def');
    await simulation.pass(300);
    expect(simulation.endings).toHaveLength(1);
    expect(simulation.violations()).toEqual([]);
  });

  it('onto an AMI whose hosts do not serve goes back, and is not tried again before the next month', async () => {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['postgresDoesNotStart'] : []) });
    const source = simulation.holder;
    simulation.local.publishImage(NEWEST);
    await untilHour(simulation, 3);
    await simulation.pass(600);
    expect(simulation.holder).toBe(source);
    expect(simulation.endings).toMatchObject([{ status: 'FAILED', error: 'WentBack' }]);
    expect(recordedHost(simulation).ami).toBe('of-the-launch-template');
    expect(simulation.violations()).toEqual([]);
  });

  it('to another image waits for its snapshot, moves, and updates the extension where that is asked for', async () => {
    const simulation = await start({ faults: { onLatency: (name, ms) => (name === 'ec2.snapshot' ? 600_000 : ms) } });
    const source = simulation.holder;
    const image = 'timescale/timescaledb:2.20.0-pg16';
    simulation.startWorkflow('patch', { image, updateExtension: true });
    await simulation.pass(590);
    expect(simulation.holder).toBe(source);
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(recordedHost(simulation)).toMatchObject({ image });
    expect(commandsRun(simulation)).toContain('keeper-update-extension');
    expect(simulation.violations()).toEqual([]);
  });

  it('to an image with which PostgreSQL does not start goes back, and the extension is left alone', async () => {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['postgresDoesNotStart'] : []) });
    const { image } = recordedHost(simulation);
    const source = simulation.holder;
    simulation.startWorkflow('patch', { image: 'timescale/timescaledb:2.20.0-pg16', updateExtension: true });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'FAILED', error: 'NotMoved' }]);
    expect(simulation.holder).toBe(source);
    expect(recordedHost(simulation).image).toBe(image);
    expect(commandsRun(simulation)).not.toContain('keeper-update-extension');
    expect(simulation.violations()).toEqual([]);
  });

  it('is done with the AMI of the deployment when AWS has withdrawn the one that was proven', async () => {
    const simulation = await start();
    simulation.asPerson('ssm', 'PutParameter', {
      Name: '/keeper/lighthouse/host/ami',
      Value: 'ami-0withdrawn0000000',
      Type: 'String',
      Overwrite: true,
    });
    await simulation.pass(5);
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });
});

describe('the return to Spot', () => {
  async function startOnDemand(): Promise<Simulation> {
    const simulation = await start();
    exhaust(simulation, 'spot');
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(machineOf(simulation)?.lifecycle).toBe('on-demand');
    return simulation;
  }

  it('happens in the window, once Spot has capacity', async () => {
    const simulation = await startOnDemand();
    const source = simulation.holder;
    for (const type of recordedHost(simulation).instanceTypes) simulation.local.ec2.capacity(type, 'spot', true);
    await untilHour(simulation, 3);
    expect(simulation.holder).toBe(source);
    await simulation.pass(300);
    expect(machineOf(simulation)?.lifecycle).toBe('spot');
    expect(simulation.endings.at(-1)).toMatchObject({
      status: 'SUCCEEDED',
      name: expect.stringMatching(/^lighthouse-spot-/),
    });
    expect(simulation.violations()).toEqual([]);
  });

  it('to a Spot host that AWS takes at once goes on to another one', async () => {
    const simulation = await startOnDemand();
    const source = simulation.holder;
    for (const type of recordedHost(simulation).instanceTypes) simulation.local.ec2.capacity(type, 'spot', true);
    await untilHour(simulation, 3);
    const second = await untilOnAnotherThan(simulation, source);
    simulation.local.ec2.interrupt(second);
    await simulation.pass(180);
    await simulation.settle();
    expect([source, second]).not.toContain(simulation.holder);
    expect(simulation.violations()).toEqual([]);
  });

  it('is not tried twice on one day, and interrupts nobody when Spot has nothing', async () => {
    const simulation = await startOnDemand();
    const source = simulation.holder;
    const before = simulation.downtime();
    await untilHour(simulation, 3);
    await simulation.pass(2 * 3600);
    const tries = simulation.endings.filter(({ name }) => name.startsWith('lighthouse-spot-'));
    expect(tries).toMatchObject([{ status: 'SUCCEEDED', output: expect.stringContaining('"called off"') }]);
    expect(simulation.holder).toBe(source);
    expect(simulation.downtime()).toBe(before);
    expect(simulation.violations()).toEqual([]);
  });
});
