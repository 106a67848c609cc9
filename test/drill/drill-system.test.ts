import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { chooseEngine, installPackages, missingPackages, requireRoom } from '../../drill/system.ts';

describe('what a machine lacks for real disks', () => {
  const programs = { 'mkfs.xfs': 'xfsprogs', nsenter: 'util-linux', unshare: 'util-linux', postgres: 'postgresql' };

  it('is the packages of the programs that are not there, each once', () => {
    expect(missingPackages(programs, () => true)).toEqual([]);
    expect(missingPackages(programs, () => false)).toEqual(['xfsprogs', 'util-linux', 'postgresql']);
    expect(missingPackages(programs, (program) => program !== 'postgres')).toEqual(['postgresql']);
  });

  it('is not looked for at a registry when everything is there', async () => {
    const said: string[] = [];
    await installPackages((line) => said.push(line), { sh: 'dash', ls: 'coreutils' });
    expect(said).toEqual([]);
  });

  it('is named when it is room', () => {
    expect(() => requireRoom(tmpdir())).not.toThrow();
    expect(() => requireRoom('/proc')).toThrow(
      'the volumes of a drill need 1024 MiB in /proc, and 0 MiB are free: make room, or set TMPDIR to a directory with more',
    );
  });
});

describe('the engine', () => {
  it('is the one that was asked for, or an error that says why not', async () => {
    const said: string[] = [];
    const choose = (wanted: string, image?: string) =>
      chooseEngine(wanted, image, 'configured/image', (line) => said.push(line));
    expect(await choose('modelled')).toEqual({ engine: 'modelled' });
    await expect(choose('docker', 'no/such/image:1')).rejects.toThrow(/^--engine docker: .*; write --engine auto/);
    await expect(choose('auto', 'no/such/image:1')).rejects.toThrow(/^--image no\/such\/image:1: .*; leave it away/);
    expect(said).toEqual([]);
  });

  it('is said to be a model where nobody asked for one', async () => {
    const said: string[] = [];
    const { engine } = await chooseEngine('auto', undefined, 'no/such/image:1', (line) => said.push(line));
    expect(said).toEqual(engine === 'modelled' ? [expect.stringMatching(/^the hosts of this drill are modelled/)] : []);
  });
});
