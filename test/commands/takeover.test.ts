import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, PASSWORD_PARAMETER, Stage } from './hosts.ts';

const REFUSAL = /^takeover: (?!lighthouse waits|vol-\w+ was announced)/;

describe.runIf(canRunHosts)('takeover', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  it('makes a database on a new volume, tells Step Functions, and keeps the password out of sight', async () => {
    const volumeId = await stage.volume();
    const host = await stage.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true', KEEPER_TASK_TOKEN: 'token-1' });
    await host.receive(volumeId);

    expect(stage.aws.calls).toContainEqual({
      action: 'SendTaskSuccess',
      input: { taskToken: 'token-1', output: JSON.stringify({ instanceId: host.instanceId }) },
    });
    const facts = await host.sql("SELECT current_setting('data_checksums'), current_setting('shared_buffers')");
    expect(facts.stdout).toBe('on|512MB\n');
    const password = stage.aws.parameters.get(PASSWORD_PARAMETER) ?? '';
    expect(password).toMatch(/^[\w-]{32}$/);
    const traces = await host.run(
      'grep -rl -- "$PASSWORD" /run/keeper /var/lib/docker /var/log /data/pgdata; ls -A /data',
      { PASSWORD: password },
    );
    expect(traces.stdout).toBe('pgdata\n');
    const login = 'psql -h 127.0.0.1 -U postgres -Atc "SELECT 1"';
    expect((await host.run(login, { PGPASSWORD: password })).stdout).toBe('1\n');
    expect((await host.run(login, { PGPASSWORD: 'wrong' })).stderr).toContain('password authentication failed');
  });

  it.each([
    ['t4g.micro', '256MB 768MB 64MB 8MB 50'],
    ['t4g.small', '512MB 1536MB 128MB 16MB 100'],
    ['t4g.medium', '1024MB 3072MB 256MB 16MB 100'],
    ['r6g.large', '4096MB 12288MB 1024MB 16MB 100'],
  ])('gives the server what the memory of a %s allows', async (instanceType, settings) => {
    const host = await stage.host(instanceType);
    await host.arm(await stage.volume());
    const names = ['shared_buffers', 'effective_cache_size', 'maintenance_work_mem', 'work_mem', 'max_connections'];
    const values = settings.split(' ');
    const command = await host.run(`. /var/lib/docker/containers/keeper-postgres/config; echo "\${command[*]}"`);
    expect(command.stdout).toContain(names.map((name, number) => `--${name}=${values[number]}`).join(' '));
  });

  it('runs again at the next boot, where everything is there already', async () => {
    const { host } = await stage.serving();
    const again = await host.run('/var/lib/cloud/scripts/per-boot/keeper-takeover');
    expect(again).toMatchObject({ exitCode: 0 });
    expect(again.stdout).toContain('keeper-step start-database');
  });

  it('never formats a volume that holds something, and leaves it as it is', async () => {
    const volumeId = await stage.volume();
    const preparer = await stage.host();
    await preparer.host.attach({ volumeId, sizeGiB: 8 });
    const written = await preparer.run(
      'echo precious | dd of=$DEVICE bs=1 seek=70000 conv=fsync',
      preparer.device(volumeId),
    );
    expect(written.exitCode).toBe(0);
    await preparer.host.detach(volumeId);

    const host = await stage.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    await host.host.attach({ volumeId, sizeGiB: 8 });
    expect(await host.said(REFUSAL)).toContain(`${volumeId} cannot be mounted`);
    expect(host.output).toContain(
      `takeover: ${volumeId} was announced as new but holds something: it is not formatted`,
    );
    const kept = await host.run('dd if=$DEVICE bs=1 skip=70000 count=8 status=none', host.device(volumeId));
    expect(kept.stdout).toBe('precious');
  });

  it('does not format a blank volume that was not announced as new', async () => {
    const volumeId = await stage.volume();
    const host = await stage.host();
    await host.arm(volumeId);
    await host.host.attach({ volumeId, sizeGiB: 8 });
    expect(await host.said(REFUSAL)).toContain(`${volumeId} cannot be mounted`);
    const signatures = await host.run('wipefs --no-act $DEVICE', host.device(volumeId));
    expect(signatures.stdout).toBe('');
  });

  it('refuses a file system without a data directory, even of a volume announced as new', async () => {
    const volumeId = await stage.volume();
    const preparer = await stage.host();
    await preparer.host.attach({ volumeId, sizeGiB: 8 });
    const made = 'mkfs.xfs -q $DEVICE && mkdir -p /mnt && mount $DEVICE /mnt && touch /mnt/something && umount /mnt';
    expect(await preparer.run(made, preparer.device(volumeId))).toMatchObject({ exitCode: 0 });
    await preparer.host.detach(volumeId);

    const host = await stage.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    await host.host.attach({ volumeId, sizeGiB: 8 });
    expect(await host.said(REFUSAL)).toContain('holds no PostgreSQL data directory');
    expect((await host.run('ls -A /data; docker inspect -f {{.State.Status}} keeper-postgres')).stdout).toBe(
      'something\ncreated\n',
    );
  });

  it('finishes a first initialisation that was interrupted', async () => {
    const volumeId = await stage.volume();
    const first = await stage.host();
    await first.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    await first.host.attach({ volumeId, sizeGiB: 8 });
    await first.said(/^keeper-step mount/);
    await first.host.shutdown('hard');

    const second = await stage.host();
    await second.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    await second.receive(volumeId);
    expect((await second.sql('SELECT 1')).stdout).toBe('1\n');
  });

  it.each([
    { how: 'hard', log: 'was not properly shut down' },
    { how: 'os', log: 'was shut down at' },
  ] as const)('serves again what was committed when the host ended ($how)', async ({ how, log }) => {
    const { host, volumeId } = await stage.serving();
    const write = 'CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)';
    expect(await host.sql(write)).toMatchObject({ exitCode: 0 });
    await host.host.shutdown(how);

    const next = await stage.host();
    await next.arm(volumeId);
    await next.receive(volumeId);
    expect((await next.sql('SELECT count(*) FROM t')).stdout).toBe('1000\n');
    expect((await next.run('docker logs keeper-postgres 2>&1')).stdout).toContain(log);
  });

  it('serves again when the volume that this host has released comes back', async () => {
    const { host, volumeId } = await stage.serving({ KEEPER_TASK_TOKEN: 'token-once' });
    await host.sql('CREATE TABLE t AS SELECT 1 n');
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    await host.lose(volumeId);
    await host.receive(volumeId);
    expect((await host.sql('SELECT n FROM t')).stdout).toBe('1\n');
    expect(stage.aws.parameters.get('/keeper/lighthouse/takeover')).toMatch(
      new RegExp(`^${host.instanceId} serves\n(keeper-step .*\n){7}keeper-settings shared_buffers=512MB `),
    );
    expect(stage.aws.calls.filter(({ input }) => input['taskToken'] === 'token-once')).toHaveLength(1);

    // and once more
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0, stderr: '' });
    await host.lose(volumeId);
    await host.receive(volumeId);
    expect((await host.sql('SELECT n FROM t')).stdout).toBe('1\n');
  });

  it('leaves a released volume alone until it has gone, also after a reboot', async () => {
    const { host, volumeId } = await stage.serving();
    await host.release(volumeId);
    const leavesAlone = 'until grep -q "left alone until" /var/log/keeper-takeover.log; do sleep 0.02; done';
    await host.run(
      `${leavesAlone}; kill $(fuser /run/keeper/lock); flock /run/keeper/lock rm /var/log/keeper-takeover.log`,
    );
    await host.run('systemd-run --quiet --collect --no-block /var/lib/cloud/scripts/per-boot/keeper-takeover');
    await host.run(`${leavesAlone}; sleep 0.2`);
    expect((await host.run('mountpoint -q /data || docker inspect -f {{.State.Status}} keeper-postgres')).stdout).toBe(
      'exited\n',
    );
    await host.lose(volumeId);
    await host.receive(volumeId);
    expect((await host.sql('SELECT 1')).stdout).toBe('1\n');
  });

  it('starts the server again when it crashes', async () => {
    const { host } = await stage.serving();
    await host.run('kill -KILL "$(cat /var/lib/docker/containers/keeper-postgres/pid)"');
    const answer = 'until docker exec keeper-postgres psql -U postgres -Atc "SELECT 1" 2>/dev/null; do sleep 0.1; done';
    expect((await host.run(answer, {}, 20)).stdout).toBe('1\n');
  });

  it('does not serve a database whose first initialisation broke off', async () => {
    const volumeId = await stage.volume();
    const host = await stage.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true' });
    const breakOff = 'until [[ -s /data/pgdata/PG_VERSION ]]; do sleep 0.01; done; sleep 0.2; kill -KILL "$(<pid)"';
    await host.run(`cd /var/lib/docker/containers/keeper-postgres; (${breakOff}) >/dev/null 2>&1 &`);
    await host.host.attach({ volumeId, sizeGiB: 8 });
    expect(await host.said(REFUSAL)).toMatch(/PostgreSQL ended while starting|broke off half-way/);

    const next = await stage.host();
    // The takeover that has failed stops the server before it ends.
    const stopped =
      'until [[ $(docker inspect -f "{{.State.Running}}" keeper-postgres) == false ]]; do sleep 0.1; done';
    expect((await host.run(stopped, {}, 20)).exitCode).toBe(0);
    expect(await host.release(volumeId)).toMatchObject({ exitCode: 0 });
    await host.host.detach(volumeId);
    await next.arm(volumeId);
    await next.receive(volumeId);
    expect((await next.run('ls /data')).stdout).toMatch(/^pgdata\npgdata.interrupted-\d+\n$/);
  });

  it('tells Step Functions why a host cannot be armed', async () => {
    const host = await stage.host();
    await host.run('printf "#!/bin/bash\\nexit 1\\n" >/opt/drill/bin/dnf');
    host.takeOver(await stage.volume(), { KEEPER_TASK_TOKEN: 'token-2' });
    expect(await stage.aws.called('SendTaskFailure')).toEqual({
      action: 'SendTaskFailure',
      input: { taskToken: 'token-2', error: 'TakeoverFailed', cause: 'Docker could not be installed with dnf' },
    });
  });
});
