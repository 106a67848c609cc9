import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Programs that hosts with real disks need, and the Debian packages that bring them. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'mkfs.xfs': 'xfsprogs',
  ip: 'iproute2',
  nsenter: 'util-linux',
  curl: 'curl',
};
const POSTGRES_PACKAGE = 'postgresql';

type Engine = 'process' | 'modelled';

/**
 * The engine to use. `auto` is real disks on Linux as root, else modelled hosts, and says so.
 *
 * @throws Error when the engine that was asked for cannot run here
 */
export async function chooseEngine(wanted: string, say: (line: string) => void): Promise<Engine> {
  const root = process.platform === 'linux' && process.getuid?.() === 0;
  switch (wanted) {
    case 'modelled':
      return 'modelled';
    case 'process':
      if (!root) throw new Error('--engine process needs Linux and root; write --engine modelled, or run it with sudo');
      return 'process';
    case 'docker':
      throw new Error('--engine docker is not there yet; write --engine process');
    case 'auto':
      if (root) return 'process';
      say('real disks need Linux and root: the hosts of this drill are modelled (run it with sudo for real ones)');
      return 'modelled';
    default:
      throw new Error(`--engine ${wanted} is not known; write one of auto, process, modelled`);
  }
}

/**
 * Installs what is missing of the programs that real hosts need, where that can be done: as root on Debian and Ubuntu.
 *
 * @throws Error with the command that would do it
 */
export async function installPackages(say: (line: string) => void, programs = PROGRAMS): Promise<void> {
  const missing = Object.entries(programs)
    .filter(([program]) => !isInstalled(program))
    .map(([, name]) => name);
  if (programs === PROGRAMS && !hasPostgres()) missing.push(POSTGRES_PACKAGE);
  if (missing.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  if (!existsSync('/usr/bin/apt-get') || process.getuid?.() !== 0) {
    throw new Error(`this needs ${missing.join(', ')}: install it, on Debian and Ubuntu with sudo ${command}`);
  }
  say(`installing ${missing.join(', ')} …`);
  // The package would start a server of its own, which nobody needs here.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  await run('apt-get', ['update', '-qq'], { env });
  await run('apt-get', command.split(' ').slice(1), { env, maxBuffer: 16 * 1024 * 1024 });
}

function isInstalled(program: string): boolean {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return directories.some((directory) => {
    try {
      accessSync(`${directory}/${program}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function hasPostgres(): boolean {
  const base = '/usr/lib/postgresql';
  return existsSync(base) && readdirSync(base).some((version) => existsSync(`${base}/${version}/bin/postgres`));
}
