import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const CLI = fileURLToPath(new URL('../../drill/cli.ts', import.meta.url));

function drill(...args: string[]) {
  return spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8', timeout: 20_000 });
}

describe('npm run drill', () => {
  it.each([
    [
      ['--speed', '2'],
      'there is no option --speed; write one of --json, --seed, --engine, --image, --rate, --sabotage, --help',
    ],
    [['--json=yes'], '--json takes no value; write --json'],
    [['--seed'], '--seed needs a value; write --seed=VALUE'],
    [['--seed=-1'], '--seed -1 is no whole number from 0 to 2147483648; write for example --seed 1'],
    [['--rate', '1e3'], '--rate 1e3 is no whole number from 1 to 5000; write for example --rate 200'],
    [
      ['meteorite'],
      'there is no scenario meteorite; write one of spot-interruption, host-lost, scale-up, grow-volume, verify-backup',
    ],
    [['--engine', 'steam'], '--engine steam is not known; write one of auto, docker, process, modelled'],
    [
      ['--engine', 'modelled', '--image', 'postgres:16'],
      '--image goes with --engine docker, not with --engine modelled; leave one of them away',
    ],
    [
      ['--sabotage', 'hope'],
      '--sabotage hope is not known; write one of kill-postgres, full-disk, hanging-unmount, corrupt-takeover, new-host-fails, damaged-backup',
    ],
    [
      ['grow-volume', '--sabotage', 'new-host-fails'],
      '--sabotage new-host-fails does not go with grow-volume; leave it away',
    ],
    [
      ['host-lost', '--sabotage', 'full-disk'],
      '--sabotage full-disk does not go with host-lost; write one of corrupt-takeover',
    ],
    [
      ['--engine', 'modelled', '--sabotage', 'full-disk'],
      '--sabotage breaks real hosts; leave it away, or run it as root on Linux without --engine modelled',
    ],
  ])('answers %j with what to write instead', (args, line) => {
    expect(drill(...args)).toMatchObject({ status: 2, stdout: '', stderr: `drill: ${line}\n` });
  });

  it('prints its usage when it is asked for it', () => {
    const { status, stdout, stderr } = drill('--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^npm run drill -- \[SCENARIO\]/);
  });
});
