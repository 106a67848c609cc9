import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { AwsError, Cloud, type Shape } from '../../drill/cloud/kernel.ts';
import { parseSteps } from '../../drill/cloud/ssm.ts';
import type { GuestVolume, Host } from '../../drill/hosts/host.ts';
import { type HostFault, ModelledHosts } from '../../drill/hosts/modelled.ts';

const ADDRESS = '10.0.0.100';
const VOLUME = { volumeId: 'vol-0a', sizeGiB: 20 };
const ROLE = 'arn:aws:iam::123456789012:role/host';

function userData(changes: Record<string, string> = {}): string {
  const variables = {
    KEEPER_DATABASE: 'lighthouse',
    KEEPER_REGION: 'us-east-1',
    KEEPER_ADDRESS: ADDRESS,
    KEEPER_IMAGE: 'timescale/timescaledb@sha256:0',
    KEEPER_PASSWORD_PARAMETER: '/keeper/lighthouse/password',
    KEEPER_VOLUME_ID: VOLUME.volumeId,
    KEEPER_TASK_TOKEN: 'token',
    ...changes,
  };
  return `#!/bin/bash\n${Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value}'\n`)
    .join('')}echo takeover\n`;
}

/** A cloud that answers what hosts call, and hosts with these faults, by their number. */
function setUp(faults: Record<number, HostFault[]> = {}) {
  const clock = new VirtualClock();
  const cloud = new Cloud({ clock, seed: 1 });
  const calls: { operation: string; input: Shape; role: string }[] = [];
  const answer = (operation: string) => ({
    authorize: () => [],
    invoke: (input: Shape, caller: { roleArn: string }) => {
      calls.push({ operation, input, role: caller.roleArn });
      return {};
    },
  });
  cloud.register({
    name: 'states',
    operations: {
      SendTaskSuccess: answer('SendTaskSuccess'),
      SendTaskFailure: answer('SendTaskFailure'),
      SendTaskHeartbeat: answer('SendTaskHeartbeat'),
    },
  });
  cloud.register({
    name: 'ssm',
    operations: { PutParameter: answer('PutParameter'), GetParameter: answer('GetParameter') },
  });
  const hosts = new ModelledHosts(cloud, { faults: (_identity, number) => faults[number] ?? [] });
  let count = 0;
  /** @param born volumes that the instance is launched with */
  const launch = async (data = userData(), born: readonly GuestVolume[] = []): Promise<Host> => {
    const host = await hosts.createHost({
      instanceId: `i-${count++}`,
      instanceType: 't4g.micro',
      zone: 'us-east-1a',
      privateIp: '10.0.0.4',
      macAddress: '02:00:00:00:00:01',
      interfaceId: 'eni-1',
      roleArn: ROLE,
    });
    for (const volume of born) await host.attach(volume);
    host.boot(data);
    await clock.pass(240_000);
    return host;
  };
  const give = async (host: Host) => {
    await host.attach(VOLUME);
    await host.setAddresses(['10.0.0.4', ADDRESS]);
    await clock.pass(20_000);
  };
  const run = (host: Host, document: string, environment: Record<string, string> = {}, timeoutSeconds = 60) =>
    clock.run(host.run({ document, script: '', environment, timeoutSeconds }));
  const release = (host: Host) => run(host, 'keeper-release', { SSM_volumeId: VOLUME.volumeId });
  const verify = (host: Host) => run(host, 'keeper-verify', { SSM_volumeId: VOLUME.volumeId, SSM_marker: 'm' });
  const brokenPromises = () => cloud.happenings.filter(({ kind }) => kind === 'broken-promise');
  return { clock, cloud, hosts, calls, launch, give, run, release, verify, brokenPromises };
}

/** The same, with the first host serving a new volume. */
async function setUpServing(faults: Record<number, HostFault[]> = {}) {
  const world = setUp(faults);
  await world.hosts.createVolume(VOLUME);
  const source = await world.launch(userData({ KEEPER_FORMAT_BLANK: 'true' }));
  await world.give(source);
  return { ...world, source };
}

describe('a first boot', () => {
  it('arms, formats the blank volume, stores a password and serves', async () => {
    const { hosts, calls, source, verify } = await setUpServing();
    expect(calls.map(({ operation }) => operation)).toEqual(['SendTaskSuccess', 'PutParameter', 'PutParameter']);
    expect(calls[0]).toMatchObject({ role: ROLE, input: { taskToken: 'token', output: '{"instanceId":"i-0"}' } });
    expect(calls[1]?.input).toMatchObject({ Name: '/keeper/lighthouse/password', Type: 'SecureString' });
    expect(calls[2]?.input).toMatchObject({ Name: '/keeper/lighthouse/takeover', Type: 'String' });
    expect(hosts.volume('vol-0a')).toMatchObject({ formatted: true, database: 'lighthouse', writers: ['i-0'] });
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    const { exitCode, stdout } = await verify(source);
    expect(exitCode).toBe(0);
    const answer = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
    expect(answer.serverVersion).toBe('15.0');
    expect(answer.steps.map((step: { name: string }) => step.name)).toEqual([
      'install-docker',
      'pull-image',
      'create-container',
      'report-armed',
      'wait-for-volume',
      'mount',
      'first-start',
      'start-database',
    ]);
  });

  it('does not format a blank volume that nobody announced as new', async () => {
    const { hosts, launch, give, verify } = setUp();
    await hosts.createVolume(VOLUME);
    const host = await launch();
    await give(host);
    expect(hosts.volume('vol-0a')?.formatted).toBe(false);
    expect(await verify(host)).toMatchObject({ exitCode: 20, stderr: expect.stringContaining('cannot be mounted') });
  });

  it('uses the password that an interrupted first boot has stored', async () => {
    const { cloud, hosts, launch, give, calls } = setUp();
    cloud.faults = {
      onCall: ({ operation }) =>
        operation === 'PutParameter' ? { error: new AwsError('ParameterAlreadyExists', '') } : undefined,
    };
    await hosts.createVolume(VOLUME);
    await give(await launch(userData({ KEEPER_FORMAT_BLANK: 'true' })));
    expect(calls.at(-1)).toMatchObject({ operation: 'GetParameter', input: { WithDecryption: true } });
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
  });
});

describe('a relocation', () => {
  it('loses no acknowledged row, and its gap is what the stop, the move and the start took', async () => {
    const { clock, hosts, source, launch, release, brokenPromises } = await setUpServing();
    const target = await launch();
    const client = hosts.connectClient(ADDRESS, 100);
    await clock.pass(10_000);
    const released = await release(source);
    expect(released.exitCode).toBe(0);
    expect(parseSteps(released.stdout).map(({ name }) => name)).toEqual([
      'final-checkpoint',
      'stop-database',
      'unmount',
    ]);
    expect(hosts.volume('vol-0a')).toMatchObject({ cleanlyShutDown: true, writers: [] });
    expect(await source.detach('vol-0a')).toBe('detached');
    await source.setAddresses(['10.0.0.4']);
    await target.attach(VOLUME);
    await target.setAddresses(['10.0.0.5', ADDRESS]);
    await clock.pass(10_000);

    const { acknowledged, lost, gaps } = client.ledger();
    expect(hosts.servingHost(ADDRESS)).toBe('i-1');
    expect(lost).toBe(0);
    expect(acknowledged).toBe(hosts.volume('vol-0a')?.rows);
    expect(gaps).toHaveLength(1);
    const [gap] = gaps;
    const seconds = ((gap?.to ?? 0) - (gap?.from ?? 0)) / 1000;
    expect(seconds).toBeGreaterThan(0.9);
    expect(seconds).toBeLessThan(1.6);
    expect(brokenPromises()).toEqual([]);
  });

  it('recovers from a crash, more slowly, without losing a row', async () => {
    const { clock, hosts, source, launch } = await setUpServing();
    const target = await launch();
    const client = hosts.connectClient(ADDRESS, 10);
    await clock.pass(10_000);
    await clock.run(source.shutdown('hard'));
    const crashedAt = clock.now();
    expect(hosts.volume('vol-0a')).toMatchObject({ cleanlyShutDown: false, writers: [] });
    await target.attach(VOLUME);
    await target.setAddresses([ADDRESS]);
    await clock.pass(10_000);
    const { lost, acknowledged, gaps } = client.ledger();
    expect(lost).toBe(0);
    expect(acknowledged).toBeGreaterThan(100);
    expect((gaps[0]?.to ?? 0) - crashedAt).toBeGreaterThanOrEqual(1000);
  });

  it('goes back to the host that has released the volume, when it has gone and comes back', async () => {
    const { clock, cloud, hosts, source, calls, launch, give, release, verify, brokenPromises } = await setUpServing();
    await launch();
    const client = hosts.connectClient(ADDRESS, 10);
    for (const _ of ['released', 'again without harm']) expect(await release(source)).toMatchObject({ exitCode: 0 });
    await clock.pass(30_000);
    expect(hosts.volume('vol-0a')?.writers).toEqual([]);
    expect(await source.detach('vol-0a')).toBe('detached');
    await clock.pass(5_000);
    const reports = calls.length;
    await give(source);

    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    expect((await verify(source)).exitCode).toBe(0);
    expect(client.ledger()).toMatchObject({ lost: 0 });
    expect(calls.slice(reports)).toMatchObject([
      {
        operation: 'PutParameter',
        input: {
          Value: expect.stringMatching(/^i-0 serves\n(keeper-step .*\n){7}keeper-settings shared_buffers=256MB/),
        },
      },
    ]);
    expect(cloud.happenings.filter(({ kind, subject }) => kind === 'takeover' && subject === 'i-0')).toHaveLength(2);
    expect(brokenPromises()).toEqual([]);
  });

  it('breaks off a takeover by a release, and that host waits anew', async () => {
    const { clock, hosts, source, launch, release, give } = await setUpServing();
    const target = await launch();
    await release(source);
    await source.detach('vol-0a');
    await target.attach(VOLUME);
    await clock.pass(400);
    expect(hosts.volume('vol-0a')?.writers).toEqual(['i-1']);
    expect(await release(target)).toMatchObject({ exitCode: 12 }); // it had not started
    expect(await release(target)).toMatchObject({ exitCode: 0 });
    expect(await target.detach('vol-0a')).toBe('detached');
    await clock.pass(5_000);
    await give(target);
    expect(hosts.servingHost(ADDRESS)).toBe('i-1');
  });

  it('shuts PostgreSQL down cleanly when the operating system shuts down', async () => {
    const { clock, hosts, source } = await setUpServing();
    await clock.run(source.shutdown('os'));
    expect(hosts.volume('vol-0a')?.cleanlyShutDown).toBe(true);
    expect(hosts.servingHost(ADDRESS)).toBeUndefined();
  });

  it('releases again without harm', async () => {
    const { source, release } = await setUpServing();
    await release(source);
    expect(await release(source)).toMatchObject({ exitCode: 0 });
  });

  it('does not let go of a volume that is mounted', async () => {
    const { source } = await setUpServing();
    expect(await source.detach('vol-0a')).toBe('busy');
  });

  it('takes no write where the address is not delivered', async () => {
    const { clock, hosts, source } = await setUpServing();
    await source.setAddresses(['10.0.0.4']);
    const client = hosts.connectClient(ADDRESS, 10);
    await clock.pass(5_000);
    expect(client.ledger()).toMatchObject({ acknowledged: 0, gaps: [{ to: clock.now() }] });
  });
});

describe('commands', () => {
  it('checkpoint needs a database that runs', async () => {
    const { run, source, release } = await setUpServing();
    const served = await run(source, 'keeper-checkpoint', { SSM_seconds: '30' });
    expect(served.exitCode).toBe(0);
    expect(parseSteps(served.stdout)[0]?.name).toBe('checkpoint');
    await release(source);
    expect(await run(source, 'keeper-checkpoint', { SSM_seconds: '30' })).toMatchObject({ exitCode: 1 });
  });

  it('release refuses another volume, and verify one that is not served', async () => {
    const { run, source, release, verify } = await setUpServing();
    expect(await run(source, 'keeper-release', { SSM_volumeId: 'vol-0b' })).toMatchObject({ exitCode: 10 });
    expect((await verify(source)).exitCode).toBe(0);
    await release(source);
    expect((await verify(source)).exitCode).toBe(20);
  });

  it('grow waits for the device and fills it, as a takeover does', async () => {
    const { clock, hosts, run, source, release, give } = await setUpServing();
    const grow = (sizeGiB: number) =>
      source.run({
        document: 'keeper-grow',
        script: '',
        environment: { SSM_volumeId: 'vol-0a', SSM_sizeGiB: String(sizeGiB) },
        timeoutSeconds: 90,
      });
    const growing = grow(30);
    await clock.pass(10_000);
    expect(hosts.volume('vol-0a')).toMatchObject({ sizeGiB: 20, fileSystemGiB: 20 });
    await hosts.resizeVolume('vol-0a', 30);
    expect(await clock.run(growing)).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/^keeper-step grow-file-system .*\n.* went from 20 to 30 GiB\n$/m),
    });
    expect(hosts.volume('vol-0a')).toMatchObject({ sizeGiB: 30, fileSystemGiB: 30 });
    expect(await clock.run(grow(31))).toMatchObject({ exitCode: 31 });
    expect(await run(source, 'keeper-grow', { SSM_volumeId: 'vol-0b', SSM_sizeGiB: '1' })).toMatchObject({
      exitCode: 30,
    });

    await release(source);
    await source.detach('vol-0a');
    await clock.pass(5_000);
    await hosts.resizeVolume('vol-0a', 40);
    await give(source);
    expect(hosts.volume('vol-0a')).toMatchObject({ fileSystemGiB: 40 });
  });

  it('update-extension needs a database that runs', async () => {
    const { run, source, release } = await setUpServing();
    expect(await run(source, 'keeper-update-extension')).toMatchObject({ exitCode: 0 });
    await release(source);
    expect(await run(source, 'keeper-update-extension')).toMatchObject({ exitCode: 40 });
  });

  it('a script is killed at its timeout', async () => {
    const { run, source } = await setUpServing({ 0: ['umountHangs'] });
    const result = await run(source, 'keeper-release', { SSM_volumeId: 'vol-0a' }, 10);
    expect(result).toMatchObject({ exitCode: 137, timedOut: true });
  });

  it('a document that nobody described ends the run', async () => {
    const { cloud, run, source } = await setUpServing();
    await run(source, 'keeper-other');
    expect(cloud.failure).toMatchObject({ name: 'NotModelled' });
  });
});

describe('hosts with faults', () => {
  it('report that they could not be armed', async () => {
    const { launch, calls } = setUp({ 0: ['imagePullFails'] });
    await launch();
    expect(calls).toMatchObject([
      { operation: 'SendTaskFailure', input: { taskToken: 'token', error: 'TakeoverFailed' } },
    ]);
  });

  it('wait for the volume even when nobody takes their report', async () => {
    const { cloud, hosts, source, release, launch, give } = await setUpServing();
    cloud.faults = {
      onCall: ({ operation }) =>
        operation === 'SendTaskSuccess' ? { error: new AwsError('TaskTimedOut', '') } : undefined,
    };
    const target = await launch();
    await release(source);
    await source.setAddresses([]);
    await give(target);
    expect(hosts.servingHost(ADDRESS)).toBe('i-1');
  });

  it('do not serve when PostgreSQL does not start, and verify says why', async () => {
    const { hosts, source, release, launch, give, verify } = await setUpServing({ 1: ['postgresDoesNotStart'] });
    const target = await launch();
    await release(source);
    await give(target);
    expect(hosts.volume('vol-0a')?.writers).toEqual([]);
    expect(await verify(target)).toMatchObject({
      exitCode: 21,
      stderr: expect.stringContaining('PostgreSQL ended while starting'),
    });
  });

  it('keep the volume when /data cannot be unmounted', async () => {
    const { source, release } = await setUpServing({ 0: ['umountHangs'] });
    expect(await release(source)).toMatchObject({ exitCode: 13 });
    expect(await source.detach('vol-0a')).toBe('busy');
  });

  it('kill a PostgreSQL that does not stop, also after the script has gone', async () => {
    const { clock, hosts, source, release } = await setUpServing({ 0: ['dockerStopHangs'] });
    expect(await release(source)).toMatchObject({ timedOut: true });
    expect(hosts.volume('vol-0a')?.writers).toEqual(['i-0']);
    await clock.pass(120_000);
    expect(hosts.volume('vol-0a')?.writers).toEqual([]);
    expect(await release(source)).toMatchObject({ exitCode: 0 });
  });

  it('may fail only when the volume comes back to them', async () => {
    const { clock, hosts, source, release, give, verify } = await setUpServing({ 0: ['takeoverAgainFails'] });
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    await release(source);
    await source.detach('vol-0a');
    await clock.pass(5_000);
    await give(source);
    expect(hosts.servingHost(ADDRESS)).toBeUndefined();
    expect(await verify(source)).toMatchObject({ stderr: expect.stringContaining('PostgreSQL ended while starting') });
  });

  it('do not give a volume back while they hang, even one they no longer use', async () => {
    const { cloud, hosts, source, release } = await setUpServing();
    await release(source);
    hosts.hang('i-0');
    expect(cloud.happenings.at(-1)).toMatchObject({ kind: 'guest', subject: 'i-0', detail: { state: 'hung' } });
    expect(await source.detach('vol-0a')).toBe('busy');
  });

  it('hang with the volume until they are powered off', async () => {
    const { clock, hosts, source, release, launch, give } = await setUpServing({ 1: ['hangsDuringTakeover'] });
    const target = await launch();
    await release(source);
    await give(target);
    expect(hosts.servingHost(ADDRESS)).toBeUndefined();
    expect(await target.detach('vol-0a')).toBe('busy');
    await expect(release(target)).rejects.toThrow(/virtual time stands still/);
    await clock.run(target.shutdown('hard'));
    expect(await target.detach('vol-0a')).toBe('detached');
    expect(hosts.volume('vol-0a')?.cleanlyShutDown).toBe(true);
  });
});

describe('promises', () => {
  it('two servers on one volume break the promise of one writer', async () => {
    const { launch, give, brokenPromises } = await setUpServing();
    await give(await launch());
    expect(brokenPromises()).toMatchObject([{ subject: 'vol-0a', detail: { what: expect.stringContaining('two') } }]);
  });

  it('mounting the volume of another database breaks one', async () => {
    const { source, release, launch, give, brokenPromises } = await setUpServing();
    await release(source);
    await give(await launch(userData({ KEEPER_DATABASE: 'harbour' })));
    expect(brokenPromises()).toMatchObject([{ detail: { what: 'harbour mounted the volume of lighthouse' } }]);
  });

  it('an empty volume in place of the database breaks one, and its rows count as lost', async () => {
    const { clock, hosts, source, release, launch, brokenPromises } = await setUpServing();
    const client = hosts.connectClient(ADDRESS, 10);
    await clock.pass(5_000);
    await release(source);
    const acknowledged = client.ledger().acknowledged;
    await source.setAddresses([]);
    await hosts.createVolume({ volumeId: 'vol-0b', sizeGiB: 20 });
    const target = await launch(userData({ KEEPER_VOLUME_ID: 'vol-0b', KEEPER_FORMAT_BLANK: 'true' }));
    await target.attach({ volumeId: 'vol-0b', sizeGiB: 20 });
    await target.setAddresses([ADDRESS]);
    await clock.pass(20_000);
    expect(brokenPromises()).toHaveLength(1);
    expect(client.ledger().lost).toBe(acknowledged);
  });
});

describe('snapshots', () => {
  it('hold every row that was acknowledged before, and none after', async () => {
    const { clock, hosts } = await setUpServing();
    hosts.connectClient(ADDRESS, 10);
    await clock.pass(5_000);
    await hosts.createSnapshot('snap-1', 'vol-0a');
    await clock.pass(5_000);
    await hosts.createVolume({ volumeId: 'vol-clone', sizeGiB: 20 }, 'snap-1');
    expect(hosts.volume('vol-clone')).toMatchObject({ rows: 50, cleanlyShutDown: false, database: 'lighthouse' });
    expect(hosts.volume('vol-0a')?.rows).toBe(100);
    await expect(hosts.createVolume({ volumeId: 'vol-x', sizeGiB: 20 }, 'snap-2')).rejects.toThrow(/snap-2/);
  });
});

const CLONE = { volumeId: 'vol-0c', sizeGiB: 20 };

function proofData(changes: Record<string, string> = {}): string {
  const variables = {
    KEEPER_DATABASE: 'lighthouse',
    KEEPER_REGION: 'us-east-1',
    KEEPER_IMAGE: 'timescale/timescaledb@sha256:0',
    KEEPER_TASK_TOKEN: 'proof',
    KEEPER_CENSUS: 'night',
    KEEPER_LEVEL: 'full',
    ...changes,
  };
  return `#!/bin/bash\n${Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value}'\n`)
    .join('')}echo prove\n`;
}

/** A database with 50 rows, a census of them, and a snapshot with 50 more. */
async function setUpBackedUp(faults: Record<number, HostFault[]> = {}) {
  const world = await setUpServing(faults);
  const { clock, cloud, hosts, calls, run, launch, source } = world;
  const takeCensus = (id: string) => run(source, 'keeper-census', { SSM_census: id });
  hosts.connectClient(ADDRESS, 10);
  await clock.pass(5_000);
  const census = await takeCensus('night');
  await clock.pass(5_000);
  await hosts.createSnapshot('snap-1', VOLUME.volumeId);
  /** Starts a scratch host with a clone of the snapshot, and gives it time. */
  const prove = async (changes: Record<string, string> = {}): Promise<Host> => {
    await hosts.createVolume(CLONE, 'snap-1');
    const host = await launch(proofData(changes), [CLONE]);
    await clock.pass(600_000);
    return host;
  };
  /** What it reported: `Operation` and input. */
  const reports = () => calls.filter(({ input }) => input.taskToken === 'proof');
  const report = (): Shape => {
    const { operation, input } = reports().at(-1) ?? {};
    expect(operation).toBe('SendTaskSuccess');
    return JSON.parse(input.output);
  };
  const failed = () => report().checks.filter(({ ok }: Shape) => !ok);
  return { ...world, cloud, takeCensus, census, prove, reports, report, failed };
}

describe('a census', () => {
  it('counts the rows inside the database, and is in the snapshots that are taken afterwards', async () => {
    const { hosts, census, takeCensus } = await setUpBackedUp();
    expect(census.exitCode).toBe(0);
    expect(JSON.parse(census.stdout.trimEnd().split('\n').at(-1) ?? '')).toEqual({
      census: 'night',
      takenAt: expect.stringMatching(/^2026-01-05T.*Z$/),
      databases: 1,
      relations: 1,
      rows: expect.any(Number),
    });
    for (const id of ['b', 'c', 'd', 'd']) await takeCensus(id);
    expect(hosts.volume('vol-0a')?.censuses).toEqual(['b', 'c', 'd']);
    await hosts.createVolume(CLONE, 'snap-1');
    expect(hosts.volume('vol-0c')?.censuses).toEqual(['night']);
  });

  it('needs a database that runs', async () => {
    const { source, release, takeCensus } = await setUpBackedUp();
    await release(source);
    expect(await takeCensus('later')).toMatchObject({ exitCode: 50, stdout: '' });
  });
});

describe('a scratch host', () => {
  it('restores the clone, reports what it found, and touches neither the original nor the address', async () => {
    const { hosts, prove, reports, report, brokenPromises } = await setUpBackedUp();
    await prove();
    expect(report()).toEqual({
      ok: true,
      level: 'full',
      checks: ['mount', 'data-directory', 'recovery', 'catalog', 'census', 'timescaledb', 'pages', 'rows'].map(
        (name) => {
          return { name, ok: true, seconds: expect.any(Number), detail: expect.stringMatching(/\w/) };
        },
      ),
      censusTakenAt: expect.stringMatching(/^2026-01-05T.*Z$/),
      serverVersion: '15.0',
      timescaledb: null,
      recoverySeconds: expect.any(Number),
      bytesRead: 20 * 2 ** 30,
      seconds: expect.any(Number),
    });
    expect(report().recoverySeconds).toBeGreaterThanOrEqual(1);
    expect(reports().map(({ operation }) => operation)).toEqual([
      ...Array(reports().length - 1).fill('SendTaskHeartbeat'),
      'SendTaskSuccess',
    ]);
    expect(reports().length - 1).toBeGreaterThanOrEqual(Math.floor(report().seconds / 60));
    expect(hosts.volume('vol-0c')?.writers).toEqual(['i-1']);
    expect(hosts.servingHost(ADDRESS)).toBe('i-0');
    expect(brokenPromises()).toEqual([]);
  });

  it('is quicker when it does not read everything, and then sees neither damage nor what is missing', async () => {
    const { hosts, prove, report } = await setUpBackedUp();
    hosts.damage('snap-1', 'random bytes in public.events');
    hosts.loseRows('snap-1', 60);
    await prove({ KEEPER_LEVEL: 'quick' });
    expect(report()).toMatchObject({ ok: true, level: 'quick', bytesRead: 0 });
    expect(report().seconds).toBeLessThan(60);
  });

  it('compares nothing when there was no census, and says so', async () => {
    const { hosts, prove, report } = await setUpBackedUp();
    hosts.loseCensus('snap-1');
    hosts.loseRows('snap-1', 10);
    await prove({ KEEPER_CENSUS: '' });
    expect(report()).toMatchObject({ ok: true, censusTakenAt: null });
    expect(report().checks).toContainEqual(
      expect.objectContaining({ name: 'census', detail: expect.stringContaining('no census') }),
    );
  });

  it.each<[string, (hosts: ModelledHosts) => void, Record<string, string>, Shape]>([
    [
      'damaged bytes',
      (hosts) => hosts.damage('snap-1', 'random bytes in public.events'),
      {},
      { name: 'pages', detail: 'random bytes in public.events', findings: ['random bytes in public.events'], more: 0 },
    ],
    [
      'missing rows',
      (hosts) => hosts.loseRows('snap-1', 60),
      {},
      { name: 'rows', detail: expect.stringMatching(/^the tables have \d+ rows; in the census they have \d+$/) },
    ],
    [
      'a missing census',
      (hosts) => hosts.loseCensus('snap-1'),
      {},
      { name: 'census', detail: expect.stringContaining('the census night that was written') },
    ],
    [
      'another database',
      () => {},
      { KEEPER_DATABASE: 'harbour' },
      { name: 'data-directory', detail: 'the volume holds the database lighthouse, expected harbour' },
    ],
  ])('finds %s', async (_, spoil, changes, finding) => {
    const { hosts, prove, report, failed } = await setUpBackedUp();
    spoil(hosts);
    await prove(changes);
    expect(report().ok).toBe(false);
    expect(failed()).toEqual([expect.objectContaining(finding)]);
  });

  it.each<[string, boolean, string]>([
    ['a blank disk', false, 'mount'],
    ['a disk whose first start never came', true, 'data-directory'],
  ])('finds %s', async (_, formatted, name) => {
    const { clock, hosts, launch, prove, failed } = await setUpBackedUp();
    await hosts.createVolume({ volumeId: 'vol-0b', sizeGiB: 20 });
    const changes = { KEEPER_VOLUME_ID: 'vol-0b', KEEPER_FORMAT_BLANK: 'true' };
    if (formatted) {
      const half = await launch(userData(changes));
      await half.attach({ volumeId: 'vol-0b', sizeGiB: 20 });
      await clock.pass(1_500);
      await clock.run(half.shutdown('hard'));
    }
    await hosts.deleteSnapshot('snap-1');
    await hosts.createSnapshot('snap-1', 'vol-0b');
    await prove();
    expect(failed()).toMatchObject([{ name }]);
  });

  it('calls it a finding when PostgreSQL does not start on the clone', async () => {
    const { prove, report, failed } = await setUpBackedUp({ 1: ['postgresDoesNotStart'] });
    await prove();
    expect(failed()).toMatchObject([
      { name: 'recovery', detail: expect.stringContaining('PostgreSQL ended while starting') },
    ]);
    expect(report()).toMatchObject({ recoverySeconds: null, serverVersion: null });
  });

  it.each<[HostFault, string]>([
    ['cannotVerify', 'this host cannot verify anything'],
    ['imagePullFails', 'the image could not be pulled'],
  ])('reports %s as a failure of its own', async (fault, cause) => {
    const { prove, reports } = await setUpBackedUp({ 1: [fault] });
    await prove();
    expect(reports().at(-1)).toMatchObject({
      operation: 'SendTaskFailure',
      input: { error: 'CannotVerify', cause },
    });
  });

  it('cannot verify without a clone', async () => {
    const { launch, reports } = await setUpBackedUp();
    await launch(proofData());
    expect(reports().at(-1)).toMatchObject({
      input: { error: 'CannotVerify', cause: expect.stringMatching(/^no clone was attached/) },
    });
  });

  it('sends no heartbeat any more when it hangs', async () => {
    const { clock, prove, reports } = await setUpBackedUp({ 1: ['proofHangs'] });
    await prove();
    const before = reports().length;
    await clock.pass(3_600_000);
    expect(reports()).toHaveLength(before);
    expect(reports().every(({ operation }) => operation === 'SendTaskHeartbeat')).toBe(true);
  });

  it('powers itself off after thirteen hours, whatever became of it', async () => {
    const { clock, cloud, prove } = await setUpBackedUp({ 1: ['proofHangs'] });
    await prove();
    const off = () => cloud.happenings.filter(({ kind, detail }) => kind === 'guest' && detail['state'] === 'off');
    expect(off()).toEqual([]);
    await clock.pass(13 * 3_600_000);
    expect(off()).toMatchObject([{ subject: 'i-1' }]);
  });
});
