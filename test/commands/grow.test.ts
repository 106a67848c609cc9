import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, command, Stage, type TestHost } from './hosts.ts';

const SIZE_OF_DATA = 'df --output=size --block-size=1M /data | tail -1';

describe.runIf(canRunHosts)('grow', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  const grow = (host: TestHost, volumeId: string, sizeGiB: number) =>
    host.run(command('grow'), { SSM_volumeId: volumeId, SSM_sizeGiB: String(sizeGiB) });

  it('makes the file system as large as the volume while the database serves, and can be run twice', async () => {
    const { host, volumeId } = await stage.serving();
    const before = Number((await host.run(SIZE_OF_DATA)).stdout);
    await stage.hosts.resizeVolume(volumeId, 12);
    const grown = await grow(host, volumeId, 12);
    expect(grown).toMatchObject({ exitCode: 0, stderr: '' });
    expect(grown.stdout).toMatch(
      /^keeper-step wait-for-device .*\nkeeper-step grow-file-system [\d.]+ 0\.\d{3}\ngrow: /,
    );
    expect(grown.stdout).toContain(`grow: the file system of ${volumeId} went from 8 to 12 GiB\n`);
    expect(Number((await host.run(SIZE_OF_DATA)).stdout) - before).toBe(4096);
    expect((await grow(host, volumeId, 12)).stdout).toContain('went from 12 to 12 GiB\n');
    expect((await host.sql('SELECT 1')).stdout).toBe('1\n');
  });

  it('waits for a device that is late', async () => {
    const { host, volumeId } = await stage.serving();
    const growing = grow(host, volumeId, 9);
    await host.run('until pgrep --full "sleep 0.2"; do :; done');
    await stage.hosts.resizeVolume(volumeId, 9);
    expect(await growing).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('went from 8 to 9 GiB') });
  });

  it('says when the device does not become that large', async () => {
    const { host, volumeId } = await stage.serving();
    const impatient = command('grow').replace('wait_seconds=60', 'wait_seconds=1');
    expect(await host.run(impatient, { SSM_volumeId: volumeId, SSM_sizeGiB: '9' })).toMatchObject({
      exitCode: 31,
      stderr: `grow: the device of ${volumeId} has 8 GiB after 1 s, and not 9\n`,
    });
  });

  it('touches no other volume', async () => {
    const { host } = await stage.serving();
    const other = await stage.volume();
    await host.host.attach({ volumeId: other, sizeGiB: 8 });
    expect(await grow(host, other, 8)).toMatchObject({
      exitCode: 30,
      stderr: `grow: what is mounted at /data is not ${other}\n`,
    });
  });

  it('is done by a takeover, too', async () => {
    const { host, volumeId } = await stage.serving();
    const before = Number((await host.run(SIZE_OF_DATA)).stdout);
    await host.release(volumeId);
    await host.lose(volumeId);
    await stage.hosts.resizeVolume(volumeId, 10);
    await host.receive(volumeId);
    expect(Number((await host.run(SIZE_OF_DATA)).stdout) - before).toBe(2048);
  });
});
