import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import type { DrillReport } from './report.ts';

const run = promisify(execFile);
const ENGINES = ['auto', 'docker', 'process', 'modelled'];

/** Programs that hosts with real disks need, and the Debian packages that bring them. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'mkfs.xfs': 'xfsprogs',
  ip: 'iproute2',
  nsenter: 'util-linux',
  losetup: 'mount',
  hostname: 'hostname',
  curl: 'curl',
  python3: 'python3',
  postgres: 'postgresql',
};
/** What the volumes of a drill write, and a half more. */
const ROOM_MIB = 1024;

/** What hosts are made of. */
export interface Machinery {
  readonly engine: DrillReport['engine'];
  /** For the engine `docker`: what containers are made of. */
  readonly image?: string;
}

/**
 * The engine to use. `auto` is the best that there is: Docker where it has the image, else the machine's own PostgreSQL,
 * else modelled hosts, and says so.
 *
 * @param image the one that was asked for
 * @param configured the image of the configuration
 * @throws Error when the engine that was asked for cannot run here
 */
export async function chooseEngine(
  wanted: string,
  image: string | undefined,
  configured: string,
  say: (line: string) => void,
): Promise<Machinery> {
  if (!ENGINES.includes(wanted)) {
    throw new Error(`--engine ${wanted} is not known; write one of ${ENGINES.join(', ')}`);
  }
  if (image !== undefined && wanted !== 'docker' && wanted !== 'auto') {
    throw new Error(`--image goes with --engine docker, not with --engine ${wanted}; leave one of them away`);
  }
  if (wanted === 'modelled') return { engine: 'modelled' };
  const obstacle = await findObstacle();
  if (wanted === 'process') {
    if (obstacle !== undefined) throw new Error(`--engine process: ${obstacle}; write --engine modelled`);
    return { engine: 'process' };
  }
  const reference = image ?? configured;
  const dockerObstacle = obstacle ?? (await findDockerObstacle(reference));
  if (dockerObstacle === undefined) return { engine: 'docker', image: reference };
  if (wanted === 'docker')
    throw new Error(`--engine docker: ${dockerObstacle}; write --engine auto for the best there is`);
  if (image !== undefined) throw new Error(`--image ${image}: ${dockerObstacle}; leave it away for the best there is`);
  if (obstacle === undefined) return { engine: 'process' };
  say(`the hosts of this drill are modelled, without real disks: ${obstacle}`);
  return { engine: 'modelled' };
}

/** Why this process cannot make hosts with real disks, whatever is installed. */
async function findObstacle(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'real ones need Linux';
  if (process.getuid?.() !== 0) return 'real ones need root (sudo)';
  if (!(await succeeds('unshare', '--mount', '--net', '--pid', '--uts', '--ipc', '--fork', 'true')))
    return 'root may not make namespaces here (a container needs --privileged)';
  if (!(await succeeds('losetup', '--find'))) return 'there are no loop devices (a container needs --privileged)';
  return undefined;
}

/** Why hosts cannot have real containers of this image. */
async function findDockerObstacle(image: string): Promise<string | undefined> {
  if (!isInstalled('docker') || !isInstalled('dockerd')) return 'Docker Engine is not installed here';
  const engine = ['--host', 'unix:///var/run/docker.sock'];
  if (!(await succeeds('docker', ...engine, 'version'))) return "this machine's Docker does not answer";
  if (!(await succeeds('docker', ...engine, 'image', 'inspect', image)))
    return `this machine's Docker has no image ${image} (docker pull ${image} brings it)`;
  const { stdout: bytes } = await run('docker', [...engine, 'image', 'inspect', '--format', '{{.Size}}', image]);
  const needed = Number(bytes) * 3 + 2 ** 30;
  return availableMemory() > needed
    ? undefined
    : `hosts keep the image in memory, and ${Math.ceil(needed / 2 ** 30)} GiB are not available`;
}

/** Bytes, as the kernel estimates them; `freemem` leaves out what caches would give back. */
function availableMemory(): number {
  return Number(/^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
}

async function succeeds(program: string, ...args: string[]): Promise<boolean> {
  return run(program, args, { timeout: 10_000 }).then(
    () => true,
    () => false,
  );
}

/** The Debian packages of the programs that are not there, each once. */
export function missingPackages(
  programs: Readonly<Record<string, string>>,
  has: (program: string) => boolean,
): string[] {
  return [...new Set(Object.entries(programs).flatMap(([program, name]) => (has(program) ? [] : [name])))];
}

/**
 * Installs the packages of the programs that are missing, where that can be done: as root on Debian and Ubuntu.
 *
 * @param programs by name, with the package that brings each; default: what hosts with real disks need
 * @throws Error with the command that would do it
 */
export async function installPackages(say: (line: string) => void, programs = PROGRAMS): Promise<void> {
  const missing = missingPackages(programs, isInstalled);
  if (missing.length === 0) return;
  const install = ['install', '--yes', '--no-install-recommends', ...missing];
  if (!existsSync('/usr/bin/apt-get') || process.getuid?.() !== 0) {
    throw new Error(
      `${programs === PROGRAMS ? 'real disks need' : 'this needs'} ${missing.join(', ')}; on Debian and Ubuntu write sudo apt-get ${install.join(' ')}`,
    );
  }
  say(`installing ${missing.join(', ')} (apt-get ${install.join(' ')}) …`);
  // The package of PostgreSQL brings a server of its own. It is not started where init scripts go by the runlevel; where it
  // is, it disturbs nobody: each host of the drill has its own network, its own /run and its own shared memory.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  try {
    await run('apt-get', ['update', '--quiet=2'], { env });
    await run('apt-get', install, { env, maxBuffer: 16 * 2 ** 20 });
  } catch (error) {
    const [said = ''] = /^E: .*$/m.exec((error as { stderr?: string }).stderr ?? '') ?? [];
    throw new Error(`apt-get cannot install ${missing.join(', ')}: ${said || (error as Error).message}`, {
      cause: error,
    });
  }
}

/** @throws Error when the volumes of a drill have no room, with what to do about it */
export function requireRoom(directory = tmpdir()): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = Math.floor((bavail * bsize) / 2 ** 20);
  if (free >= ROOM_MIB) return;
  throw new Error(
    `the volumes of a drill need ${ROOM_MIB} MiB in ${directory}, and ${free} MiB are free: make room, or set TMPDIR to a directory with more`,
  );
}

function isInstalled(program: string): boolean {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', ...postgresDirectories()];
  return directories.some((directory) => {
    try {
      accessSync(`${directory}/${program}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Debian keeps the server of each version apart, out of the PATH. */
function postgresDirectories(): string[] {
  const base = '/usr/lib/postgresql';
  return existsSync(base) ? readdirSync(base).map((version) => `${base}/${version}/bin`) : [];
}
