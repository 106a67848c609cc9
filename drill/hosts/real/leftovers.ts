import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { RealClock } from '../../cloud/clock.ts';
import { execute } from './processes.ts';

const PREFIX = 'keeper-drill-';
const UNMOUNT_MS = 20_000;
const clock = new RealClock();

/** The start time of a process in clock ticks since boot (field 22 of proc(5) stat): its id may be used again. */
function startTime(pid: number | string): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

let made = 0;

/** A directory for one runtime of this process. Its name says whose it is, so that a later drill can clean up. */
export function directoryName(): string {
  return join(tmpdir(), `${PREFIX}${process.pid}-${startTime(process.pid)}-${made++}`);
}

/** Loop devices whose file has a directory of this name in its path. */
function loopDevices(name: string): string[] {
  return readdirSync('/sys/block')
    .filter((block) => block.startsWith('loop') && backingFile(block)?.includes(`/${name}/`))
    .map((block) => `/dev/${block}`);
}

function backingFile(loop: string): string | undefined {
  try {
    return readFileSync(`/sys/block/${loop}/loop/backing_file`, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Detaches the loop devices of `directory` and removes it. The kernel may still be unmounting what has ended.
 * @throws Error when something keeps using a device
 */
export async function removeDirectory(directory: string): Promise<void> {
  const deadline = clock.now() + UNMOUNT_MS;
  for (let left = loopDevices(basename(directory)); left.length > 0; left = loopDevices(basename(directory))) {
    if (clock.now() > deadline) throw new Error(`${left.join(', ')} of ${directory} cannot be detached`);
    for (const device of left) await execute(['losetup', '--detach', device]);
    await clock.sleep(10);
  }
  await removeCgroups(basename(directory));
  rmSync(directory, { recursive: true, force: true });
}

/** Containers are killed with their hosts, so nobody else removes what Docker made for them. */
async function removeCgroups(name: string): Promise<void> {
  const find = ['find', '/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*/${name}*`, '-print'];
  const deadline = clock.now() + UNMOUNT_MS;
  for (;;) {
    const cgroups = (await execute(find)).stdout.split('\n').filter((path) => path !== '');
    if (cgroups.length === 0 || clock.now() > deadline) return;
    // the kernel takes a moment to let go of what was in them
    for (const cgroup of cgroups) await rmdir(cgroup).catch(() => {});
    await clock.sleep(10);
  }
}

/**
 * Removes what drills left behind that were killed. Their processes, namespaces and mounts ended with them, because the
 * kernel ends what {@link spawnBound} started; loop devices and files stay.
 * @returns the directories that were removed
 */
export async function sweepLeftovers(): Promise<string[]> {
  const swept: string[] = [];
  for (const name of readdirSync(tmpdir())) {
    const [, pid, started] = new RegExp(`^${PREFIX}(\\d+)-(\\d+)-\\d+$`).exec(name) ?? [];
    if (pid === undefined || startTime(pid) === started) continue;
    const directory = join(tmpdir(), name);
    await removeDirectory(directory);
    swept.push(directory);
  }
  return swept;
}
