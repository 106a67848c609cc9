import { describe, expect, it } from 'vitest';
import { AwsError } from '../../drill/cloud/kernel.ts';
import type { Simulation } from '../../drill/simulation.ts';
import { exhaust, failCalls, start, untilHour } from './play.ts';

/** How the backups and verifications ended, oldest first. */
function nights({ local }: Simulation) {
  return local.states.executions
    .filter(({ machine }) => /-(backup|verify-backup)$/.test(machine.name))
    .map(({ name, status, error, cause, output }) => ({ name, status, error, cause, output }));
}

function snapshots({ local }: Simulation) {
  return local.ec2.snapshots().map(({ snapshotId, tags }) => ({ snapshotId, ...Object.fromEntries(tags) }));
}

function scratchHosts({ local }: Simulation) {
  return local.ec2.machines().filter(({ tags }) => tags.get('keeper:role') === 'scratch');
}

describe('every night', () => {
  it('a backup is taken and proven on a host of its own, and nothing of that remains but the evidence', async () => {
    const simulation = await start();
    await untilHour(simulation, 2);
    await simulation.pass(90 * 60);

    const [backup, verification, ...others] = nights(simulation);
    expect(others).toEqual([]);
    expect(backup).toMatchObject({ name: 'lighthouse-backup-2026-01-06', status: 'SUCCEEDED' });
    expect(verification).toMatchObject({ status: 'SUCCEEDED', output: expect.stringContaining('"proven"') });
    const [snapshot] = snapshots(simulation);
    expect(snapshot).toMatchObject({
      'keeper:role': 'backup',
      'keeper:census': 'lighthouse-backup-2026-01-06',
      'keeper:level': 'full',
      'keeper:proven-at': expect.stringMatching(/^2026-01-06T/),
    });
    const [evidence] = simulation.local.s3.objects;
    expect(evidence?.key).toBe(`evidence/lighthouse/${snapshot?.snapshotId}.json`);
    expect(JSON.parse(evidence?.body ?? '')).toMatchObject({ snapshot: snapshot?.snapshotId, proof: { ok: true } });
    expect(simulation.messages.at(-1)?.subject).toMatch(
      /^Keeper: lighthouse: the backup of 2026-01-06T02:\d\d is proven$/,
    );
    expect(scratchHosts(simulation).map(({ state }) => state)).toEqual(['terminated']);
    expect(simulation.downtime()).toBe(0);
    expect(simulation.violations()).toEqual([]);
  });

  it('without a backup until four is a failure that people hear of', async () => {
    const simulation = await start();
    await untilHour(simulation, 4);
    await simulation.pass(10 * 60);
    expect(nights(simulation)).toMatchObject([
      { name: 'lighthouse-verify-2026-01-06', status: 'FAILED', error: 'Refused' },
    ]);
    expect(nights(simulation)[0]?.cause).toBe('lighthouse has no recovery point; start keeper-backup');
    expect(simulation.messages.at(-1)?.subject).toBe('Keeper: lighthouse: a backup is NOT proven');
  });

  it('in which the census cannot be taken ends with a snapshot all the same, and as a failure', async () => {
    const silent = new AwsError('InvalidInstanceId', 'Instances not in a valid state for account', 400);
    const simulation = await start({ faults: failCalls('ssm:SendCommand', silent, 0, 1_000) });
    await untilHour(simulation, 2);
    await simulation.pass(3 * 3600);
    expect(snapshots(simulation)).toMatchObject([{ 'keeper:role': 'backup', 'keeper:census': '' }]);
    expect(snapshots(simulation)[0]).not.toHaveProperty(['keeper:proven-at']);
    expect(nights(simulation)).toMatchObject([{ status: 'FAILED', error: 'NoCensus' }, { status: 'SUCCEEDED' }]);
    expect(simulation.violations()).toEqual([]);
  });

  it('in which the census never ends has a snapshot after two tries', async () => {
    const unknown = new AwsError('InvocationDoesNotExist', 'The command ID and instance ID did not match.', 400);
    const simulation = await start({ faults: failCalls('ssm:GetCommandInvocation', unknown, 0, 100_000) });
    await untilHour(simulation, 2);
    const before = simulation.local.cloud.callCounts['ssm:SendCommand'] ?? 0;
    await simulation.pass(3600);
    expect(simulation.local.cloud.callCounts['ssm:SendCommand']).toBe(before + 2);
    expect(snapshots(simulation)).toMatchObject([{ 'keeper:role': 'backup', 'keeper:census': '' }]);
    expect(nights(simulation)).toMatchObject([{ status: 'FAILED', error: 'NoCensus' }, { status: 'SUCCEEDED' }]);
  });

  it('in which the snapshot fails has no backup, and says so', async () => {
    const simulation = await start({ faults: { onLatency: (name, ms) => (name === 'ec2.snapshot' ? 600_000 : ms) } });
    await untilHour(simulation, 2);
    await simulation.pass(300);
    simulation.local.ec2.failSnapshot(snapshots(simulation)[0]?.snapshotId ?? '');
    await simulation.pass(600);
    expect(nights(simulation)).toMatchObject([{ status: 'FAILED', error: 'NoSnapshot' }]);
    expect(simulation.messages.at(-1)?.subject).toBe('Keeper: the backup of lighthouse failed');
  });
});

describe('a verification', () => {
  async function backedUp(
    options: Parameters<typeof start>[0] = {},
  ): Promise<{ simulation: Simulation; snapshotId: string }> {
    const simulation = await start(options);
    simulation.startWorkflow('backup', {});
    await simulation.settle();
    expect(nights(simulation).map(({ status }) => status)).toEqual(['SUCCEEDED', 'SUCCEEDED']);
    return { simulation, snapshotId: snapshots(simulation)[0]?.snapshotId ?? '' };
  }

  async function verify(simulation: Simulation, input: object) {
    simulation.startWorkflow('verify-backup', input);
    await simulation.settle();
    return nights(simulation).at(-1);
  }

  it('of what has been damaged fails, names it, and is no longer marked as proven', async () => {
    const { simulation, snapshotId } = await backedUp();
    expect(snapshots(simulation)[0]).toHaveProperty(['keeper:proven-at']);
    simulation.local.hosts.damage(snapshotId, 'random bytes in public.events');
    const ending = await verify(simulation, { recoveryPoint: snapshotId });
    expect(ending).toMatchObject({ status: 'FAILED', error: 'NotProven' });
    expect(ending?.cause).toMatch(new RegExp(`^the snapshot ${snapshotId} of .*random bytes in public.events`));
    expect(snapshots(simulation)[0]).not.toHaveProperty(['keeper:proven-at']);
    expect(simulation.messages.at(-1)?.subject).toBe('Keeper: lighthouse: a backup is NOT proven');
    expect(simulation.violations()).toEqual([]);
  });

  it('that only looks whether it starts does not mark it as proven', async () => {
    const { simulation, snapshotId } = await backedUp();
    simulation.asPerson('ec2', 'DeleteTags', { Resources: [snapshotId], Tags: [{ Key: 'keeper:proven-at' }] });
    expect(await verify(simulation, { level: 'quick' })).toMatchObject({
      status: 'SUCCEEDED',
      output: expect.stringContaining('"verified in part"'),
    });
    expect(snapshots(simulation)[0]).not.toHaveProperty(['keeper:proven-at']);
    expect(simulation.messages.at(-1)?.subject).toMatch(/ is verified in part$/);
  });

  it('of what lacks the census that was written before it fails', async () => {
    const { simulation, snapshotId } = await backedUp();
    simulation.local.hosts.loseCensus(snapshotId);
    expect(await verify(simulation, { recoveryPoint: snapshotId })).toMatchObject({ error: 'NotProven' });
  });

  it('whose scratch host AWS takes is done on another one', async () => {
    const { simulation } = await backedUp();
    simulation.startWorkflow('verify-backup', {});
    while (scratchHosts(simulation).filter(({ state }) => state === 'running').length === 0) await simulation.pass(1);
    const scratch = scratchHosts(simulation).findLast(({ state }) => state === 'running');
    simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [scratch?.identity.instanceId] });
    await simulation.settle();
    expect(nights(simulation).at(-1)).toMatchObject({ status: 'SUCCEEDED' });
    expect(scratchHosts(simulation).every(({ state }) => state === 'terminated')).toBe(true);
    expect(simulation.violations()).toEqual([]);
  });

  it.each([['cannotVerify'], ['proofHangs'], ['imagePullFails']] as const)(
    'whose scratch hosts all fail with %s fails, and leaves none behind',
    async (fault) => {
      const { simulation } = await backedUp({ hostFaults: (number) => (number > 0 ? [fault] : []) });
      const ending = await verify(simulation, {});
      expect(ending?.status).toBe('FAILED');
      expect(scratchHosts(simulation).every(({ state }) => state === 'terminated')).toBe(true);
      expect(simulation.violations()).toEqual([]);
    },
  );

  it('without capacity for a scratch host fails, and the database does not notice', async () => {
    const { simulation } = await backedUp();
    exhaust(simulation, 'spot', 'on-demand');
    expect(await verify(simulation, {})).toMatchObject({ status: 'FAILED', error: 'NoCapacity' });
    expect(simulation.downtime()).toBe(0);
    expect(simulation.violations()).toEqual([]);
  });

  it('of a snapshot of another database, or of something that is none, is refused', async () => {
    const { simulation } = await backedUp();
    for (const recoveryPoint of ['snap-0123456789abcdef0', '$(reboot)', "'; drop table x"]) {
      expect(await verify(simulation, { recoveryPoint })).toMatchObject({ status: 'FAILED', error: 'Refused' });
    }
  });

  it.each([2, 20, 45, 60])('that is stopped after %i s leaves nothing behind', async (seconds) => {
    const { simulation } = await backedUp();
    simulation.startWorkflow('verify-backup', {});
    await simulation.pass(seconds);
    const running = simulation.local.states.executions.findLast(({ status }) => status === 'RUNNING');
    if (running) simulation.asPerson('states', 'StopExecution', { executionArn: running.arn });
    // Its host gives up by itself, and what is left of it is reconcile's.
    simulation.local.events.pauseSchedules();
    await simulation.pass(26 * 3600);
    simulation.local.events.resumeSchedules();
    await simulation.pass(120);
    expect(scratchHosts(simulation).every(({ state }) => state === 'terminated')).toBe(true);
    expect(simulation.watch.orphans()).toEqual([]);
  });

  it('goes on while AWS takes the host of the database', async () => {
    const { simulation } = await backedUp();
    simulation.startWorkflow('verify-backup', {});
    await simulation.pass(30);
    const source = simulation.holder;
    simulation.local.ec2.interrupt(source);
    await simulation.settle();
    expect(simulation.holder).not.toBe(source);
    expect(nights(simulation).at(-1)).toMatchObject({ status: 'SUCCEEDED' });
    expect(simulation.violations()).toEqual([]);
  });
});
