import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, command, Stage } from './hosts.ts';

describe.runIf(canRunHosts)('release', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  it('lets another host serve the same data, and can be run twice', async () => {
    const { host, volumeId } = await stage.serving();
    await host.sql('CREATE TABLE t AS SELECT generate_series(1, 5000) n');
    expect(await host.host.detach(volumeId)).toBe('busy');

    const checkpoint = await host.run(command('checkpoint'), { SSM_seconds: '20' });
    expect(checkpoint.stdout).toMatch(/^keeper-step checkpoint [\d.]+ 0\.\d{3}\n$/);
    const first = await host.release(volumeId);
    expect(first).toMatchObject({ exitCode: 0, stderr: '' });
    expect(first.stdout).toMatch(/keeper-step stop-database .*\nkeeper-step unmount /);
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await host.host.detach(volumeId)).toBe('detached');
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });

    const next = await stage.host();
    await next.arm(volumeId);
    await next.receive(volumeId);
    expect((await next.sql('SELECT count(*) FROM t')).stdout).toBe('5000\n');
    const log = await next.run('docker logs keeper-postgres 2>&1');
    expect(log.stdout).toContain('database system was shut down at');
  });

  it('starts no second takeover where one waits already', async () => {
    const volumeId = await stage.volume();
    const host = await stage.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    await host.receive(volumeId);
    await host.run('while pgrep -f "keeper-takeover again"; do sleep 0.02; done', {}, 20);
    expect((await host.run('cat /var/log/keeper-takeover.log; ls /var/lib/keeper')).stdout).toBe('');

    for (const _ of [1, 2, 3]) expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    await host.lose(volumeId);
    await host.receive(volumeId);
    await host.run('while pgrep -f "keeper-takeover again"; do sleep 0.02; done', {}, 20);
    const started = await host.run('grep -c "keeper-step start-database" /var/log/keeper-takeover.log');
    expect(started.stdout).toBe('1\n');
  });

  it('breaks off a takeover, and the host waits anew', async () => {
    const { host: first, volumeId } = await stage.serving();
    await first.release(volumeId);
    await first.lose(volumeId);
    const host = await stage.host();
    await host.arm(volumeId);
    await host.run('sed -i "s/interactive=true/sleep 2; &/" /opt/drill/available/docker');
    await host.host.attach({ volumeId, sizeGiB: 8 });
    await host.said(/^keeper-step start-database/);
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    await host.said(/^takeover: PostgreSQL accepts connections and no write/);
    expect(stage.aws.parameters.get('/keeper/lighthouse/takeover')).not.toContain('failed');
    await host.lose(volumeId);
    await host.receive(volumeId);
    expect((await host.sql('SELECT 1')).stdout).toBe('1\n');
  });

  it('stops nothing when it is asked for another volume', async () => {
    const { host } = await stage.serving();
    const other = await stage.volume();
    await host.host.attach({ volumeId: other, sizeGiB: 8 });
    expect(await host.release(other)).toMatchObject({
      exitCode: 10,
      stderr: `release: what is mounted at /data is not ${other}: nothing was stopped\n`,
    });
    expect((await host.sql('SELECT 1')).stdout).toBe('1\n');
  });

  it('says when PostgreSQL was killed, and releases its volume the next time', async () => {
    const { host, volumeId } = await stage.serving();
    await host.run("sed -i 's/kill -INT/kill -KILL/' /opt/drill/available/docker");
    const first = await host.release(volumeId);
    expect(first).toMatchObject({ exitCode: 12 });
    expect(first.stderr).toContain('did not shut down cleanly (exit code 137, state 6)');
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0 });
    expect(await host.host.detach(volumeId)).toBe('detached');
  });

  it('names who keeps the volume busy', async () => {
    const obstacles = [
      {
        in: 'setsid sleep 60 </data/pgdata/PG_VERSION >/dev/null 2>&1 &',
        exitCode: 13,
        by: /in use by: .*sleep\(\d+\)/,
      },
      { in: 'setsid unshare --mount sleep 60 >/dev/null 2>&1 &', exitCode: 14, by: /in use by: .*sleep\(\d+\)/ },
      {
        in: 'printf "#!/bin/bash\\nsleep 60\\n" >/opt/drill/bin/umount; chmod +x /opt/drill/bin/umount',
        exitCode: 13,
        by: /unmounting \/data hangs/,
      },
    ];
    await Promise.all(
      obstacles.map(async (obstacle) => {
        const { host, volumeId } = await stage.serving();
        await host.run(obstacle.in);
        const released = await host.release(volumeId);
        expect(released.stderr).toMatch(obstacle.by);
        expect(released.exitCode).toBe(obstacle.exitCode);
        expect(await host.host.detach(volumeId)).toBe('busy');
      }),
    );
  });
});

describe.runIf(canRunHosts)('verify', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  it('writes, reads back, and publishes what the takeover took', async () => {
    const { host, volumeId } = await stage.serving();
    const verified = await host.run(command('verify'), { SSM_volumeId: volumeId, SSM_marker: 'relocate-1:a.b_c' });
    expect(verified).toMatchObject({ exitCode: 0, stderr: '' });
    const answer = JSON.parse(verified.stdout.trimEnd().split('\n').at(-1) ?? '');
    expect(answer).toMatchObject({ serverVersion: expect.stringMatching(/^\d+/), dataChecksums: true });
    expect(answer.steps.map((step: { name: string }) => step.name)).toEqual([
      'install-docker',
      'pull-image',
      'create-container',
      'report-armed',
      'wait-for-volume',
      'mount',
      'start-database',
    ]);
    expect((await host.sql('SELECT marker FROM keeper.verification ORDER BY id')).stdout).toMatch(
      /^takeover i-\w+\nrelocate-1:a\.b_c\n$/,
    );
  });

  it('keeps the last hundred markers', async () => {
    const { host, volumeId } = await stage.serving();
    const verify = () => host.run(command('verify'), { SSM_volumeId: volumeId, SSM_marker: 'again' });
    await verify();
    await host.sql("INSERT INTO keeper.verification (marker) SELECT 'old' FROM generate_series(1, 150)");
    await verify();
    expect((await host.sql('SELECT count(*) FROM keeper.verification')).stdout).toBe('100\n');
  });

  it('fails where the volume, the address or the server is not what it should be', async () => {
    const { host, volumeId } = await stage.serving();
    const verify = (id: string) => host.run(command('verify'), { SSM_volumeId: id, SSM_marker: 'm' });
    expect((await verify('vol-00000000000000bad')).exitCode).toBe(20);
    await host.run('ip address delete "$(</run/keeper/address)/32" dev ens5');
    expect((await verify(volumeId)).exitCode).toBe(21);
    await host.run('ip address add "$(</run/keeper/address)/32" dev ens5');
    await host.sql('ALTER SYSTEM SET default_transaction_read_only = on');
    await host.sql('SELECT pg_reload_conf()');
    expect(await verify(volumeId)).toMatchObject({
      exitCode: 22,
      stderr: expect.stringContaining('did not take a write'),
    });
    await host.run('docker stop -t 20 keeper-postgres');
    expect((await verify(volumeId)).exitCode).toBe(21);
  });
});
