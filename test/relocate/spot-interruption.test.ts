import { describe, expect, it } from 'vitest';
import { AwsError } from '../../drill/cloud/kernel.ts';
import config from '../../keeper.config.ts';
import { exhaust, failCalls, start, untilOnAnotherThan } from './play.ts';

describe('a Spot interruption', () => {
  it('moves the database to another host, and loses nothing', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source);
    await simulation.settle();

    expect(simulation.endings).toMatchObject([{ name: `lighthouse-${source}`, status: 'SUCCEEDED' }]);
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.ledger().acknowledged).toBeGreaterThan(10_000);
    expect(simulation.downtime()).toBeLessThan(15_000);
    expect(simulation.messages.at(-1)?.subject).toBe(`Keeper: lighthouse is on ${simulation.holder}`);
  });

  it('is one relocation when recommendation, warning and duplicates arrive together', async () => {
    const simulation = await start({ faults: { onEvent: () => ({ delaysMs: [0, 0, 700, 20_000] }) } });
    simulation.local.ec2.interrupt(simulation.holder, { rebalanceSecondsBefore: 0 });
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('is in time when the notice arrives 15 s late', async () => {
    const simulation = await start({
      faults: {
        onEvent: ({ 'detail-type': type }) => (type.startsWith('EC2 Spot') ? { delaysMs: [15_000] } : undefined),
      },
    });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(15_000);
  });

  it('moves without haste on a recommendation alone', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source, { noticeSeconds: 86_400, rebalanceSecondsBefore: 86_400 });
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(simulation.endings).toMatchObject([
      { status: 'SUCCEEDED', output: expect.stringContaining('rebalance-recommendation') },
    ]);
    expect(simulation.violations()).toEqual([]);
  });

  it('can follow another one at once', async () => {
    const simulation = await start();
    const first = simulation.holder;
    simulation.local.ec2.interrupt(first);
    await simulation.settle();
    const second = simulation.holder;
    simulation.local.ec2.interrupt(second);
    await simulation.settle();
    expect(new Set([first, second, simulation.holder]).size).toBe(3);
    expect(simulation.endings.map(({ status }) => status)).toEqual(['SUCCEEDED', 'SUCCEEDED']);
    expect(simulation.violations()).toEqual([]);
  });

  it('of the replacement, as soon as that has the database, moves it on', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source);
    const second = await untilOnAnotherThan(simulation, source);
    simulation.local.ec2.interrupt(second);
    await simulation.settle();
    expect(simulation.holder).not.toBe(second);
    expect(simulation.violations()).toEqual([]);
  });
});

describe('a Spot interruption of a replacement that is armed and waits for the database', () => {
  it.each([
    ['overtakes the relocation that waits', []],
    ['moves the database on when it has come there first', ['slowBoot']],
  ] as const)('%s', async (_, faults) => {
    // A holder that takes four minutes to end keeps the volume all the while; the second replacement may be slow.
    const simulation = await start({
      faults: { onLatency: (name, ms) => (name === 'ec2.terminate' ? 240_000 : ms) },
      hostFaults: (number) => (number === 1 ? faults : []),
    });
    const { local } = simulation;
    const first = simulation.holder;
    const volumeId = simulation.watch.liveVolume()?.volumeId;
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [first] });
    await simulation.pass(200);
    const armed = local.ec2.machines().findLast(({ state }) => state === 'running')?.identity.instanceId ?? '';
    local.ec2.interrupt(armed);
    const taken = simulation.clock.now() + 120_000;
    await simulation.settle();

    expect([first, armed]).not.toContain(simulation.holder);
    expect(simulation.violations()).toEqual([]);
    // It does not wait there until AWS takes the host.
    const held = local.cloud.happenings.filter(
      ({ kind, subject, detail }) =>
        kind === 'volume-attachment' && subject === volumeId && detail['instanceId'] === armed,
    );
    expect(held.at(-1)?.at ?? 0).toBeLessThan(taken);
  });
});

describe('capacity', () => {
  it('is found in the next type when the first ones have none', async () => {
    const simulation = await start();
    for (const type of config.databases['lighthouse']?.instanceTypes.slice(0, -1) ?? [])
      simulation.local.ec2.capacity(type, 'spot', false);
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.local.ec2.machine(simulation.holder)).toMatchObject({
      lifecycle: 'spot',
      identity: { instanceType: 'r6g.medium' },
    });
    expect(simulation.violations()).toEqual([]);
  });

  it('is bought on demand when Spot has none at all', async () => {
    const simulation = await start();
    exhaust(simulation, 'spot');
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.local.ec2.machine(simulation.holder)).toMatchObject({
      lifecycle: 'on-demand',
      identity: { instanceType: 't4g.small' },
    });
    expect(simulation.violations()).toEqual([]);
  });

  it('that is nowhere lets the source serve until the deadline, stops it cleanly, tells people, and keeps trying', async () => {
    const simulation = await start();
    const source = simulation.holder;
    exhaust(simulation, 'spot', 'on-demand');
    const noticed = simulation.clock.now();
    simulation.local.ec2.interrupt(source);
    await simulation.pass(600);

    const released = simulation.local.cloud.happenings.find(
      ({ kind, detail }) =>
        kind === 'command' && String(detail['document']).endsWith('-release') && detail['phase'] === 'ended',
    );
    expect(released).toMatchObject({ detail: { instanceId: source, exitCode: 0 } });
    expect((released?.at ?? 0) - noticed).toBeGreaterThan(75_000);
    expect((released?.at ?? 0) - noticed).toBeLessThan(100_000);
    expect(simulation.local.hosts.volume(simulation.watch.liveVolume()?.volumeId ?? '')).toMatchObject({
      cleanlyShutDown: true,
    });
    expect(simulation.messages.map(({ subject }) => subject)).toContain('Keeper: no replacement for lighthouse yet');
    expect(simulation.endings).toMatchObject([{ status: 'RUNNING' }]);

    simulation.local.ec2.capacity('m7g.medium', 'spot', true);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('that is nowhere after a recommendation is no reason to stop a host that AWS leaves alone', async () => {
    const simulation = await start();
    const source = simulation.holder;
    exhaust(simulation, 'spot', 'on-demand');
    simulation.local.ec2.interrupt(source, { noticeSeconds: 86_400, rebalanceSecondsBefore: 86_400 });
    await simulation.pass(1_800);
    expect(simulation.holder).toBe(source);
    expect(simulation.downtime()).toBe(0);
  });

  it('that is nowhere when the warning follows a recommendation still stops the source at the deadline', async () => {
    const simulation = await start();
    const source = simulation.holder;
    exhaust(simulation, 'spot', 'on-demand');
    simulation.local.ec2.interrupt(source, { rebalanceSecondsBefore: 60 });
    await simulation.pass(60 + 110);
    const released = simulation.local.cloud.happenings.find(
      ({ kind, detail }) =>
        kind === 'command' && detail['phase'] === 'ended' && String(detail['document']).endsWith('-release'),
    );
    expect(released).toMatchObject({ detail: { exitCode: 0 } });
  });
});

describe('a source that does not let go', () => {
  it('because its agent is silent is fenced, and the database serves again', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ssm.agentDead(source);
    simulation.local.ec2.interrupt(source);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.downtime()).toBeLessThan(60_000);
  });

  it('because docker stop hangs is fenced, and the database recovers', async () => {
    // Every second host hangs when it is to stop: the one that the first interruption leads to.
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['dockerStopHangs'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    const hanging = simulation.holder;
    simulation.local.ec2.interrupt(hanging);
    await simulation.settle();
    expect(simulation.holder).not.toBe(hanging);
    expect(simulation.violations()).toEqual([]);
  });

  it('because the unmount hangs is fenced, and nothing is lost', async () => {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['umountHangs'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    const hanging = simulation.holder;
    simulation.local.ec2.interrupt(hanging);
    await simulation.settle();
    expect(simulation.holder).not.toBe(hanging);
    expect(simulation.violations()).toEqual([]);
  });

  it('because the volume takes a minute to detach is waited for', async () => {
    const simulation = await start({ faults: { onLatency: (name, ms) => (name === 'ec2.detach' ? 60_000 : ms) } });
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(simulation.violations()).toEqual([]);
  });
});

describe('a target that fails', () => {
  it('to take the volume at the first try gets it at the second', async () => {
    const simulation = await start({
      faults: failCalls('ec2:AttachVolume', new AwsError('InternalError', 'An internal error has occurred', 500), 0, 3),
    });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('to get the address because EC2 throttles gets it later', async () => {
    const throttled = new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503);
    const simulation = await start({ faults: failCalls('ec2:AssignPrivateIpAddresses', throttled, 0, 6) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it.each([['hangsDuringTakeover'], ['mountFails'], ['postgresDoesNotStart']] as const)(
    'with %s is replaced by another one',
    async (fault) => {
      const simulation = await start({ hostFaults: (number) => (number === 0 ? [fault] : []) });
      const source = simulation.holder;
      simulation.local.ec2.interrupt(source);
      await simulation.settle();
      expect(simulation.violations()).toEqual([]);
      expect(simulation.endings.at(-1)).toMatchObject({ status: 'SUCCEEDED' });
      expect(simulation.holder).not.toBe(source);
    },
  );

  it.each([['imagePullFails'], ['dockerInstallFails'], ['slowBoot']] as const)(
    'to arm with %s is replaced in time or taken when it runs',
    async (fault) => {
      const simulation = await start({ hostFaults: (number) => (number === 0 ? [fault] : []) });
      simulation.local.ec2.interrupt(simulation.holder);
      await simulation.settle();
      expect(simulation.violations()).toEqual([]);
      expect(simulation.endings.at(-1)).toMatchObject({ status: 'SUCCEEDED' });
    },
  );

  it('to say how its takeover went, because nobody can read it, is verified all the same', async () => {
    const broken = new AwsError('InternalServerError', 'An error occurred on the server side.', 500);
    const simulation = await start({
      faults: {
        onCall: ({ operation, input }) =>
          operation === 'GetParameter' && String(input.Name).endsWith('/takeover') ? { error: broken } : undefined,
      },
    });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    expect(simulation.endings).toMatchObject([{ status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('and hangs, one after the other until the relocation gives up, is found by reconcile', async () => {
    const simulation = await start({ hostFaults: (number) => (number < 5 ? ['hangsDuringTakeover'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle(2 * 3_600);
    expect(simulation.endings).toMatchObject([{ status: 'FAILED', error: 'VerificationFailed' }]);
    await simulation.pass(600);
    await simulation.settle();
    expect(simulation.endings.at(-1)).toMatchObject({ status: 'SUCCEEDED' });
    expect(simulation.violations()).toEqual([]);
  });

  it('because AWS takes it while it takes over is replaced', async () => {
    const simulation = await start();
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source);
    const target = await untilOnAnotherThan(simulation, source);
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [target] });
    await simulation.settle();
    expect([source, target]).not.toContain(simulation.holder);
    expect(simulation.violations()).toEqual([]);
  });
});
