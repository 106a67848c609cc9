import {
  closeSync,
  constants,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import { open, rename, rm, stat, truncate } from 'node:fs/promises';
import { basename } from 'node:path';
import type { GuestVolume } from '../host.ts';
import { checked, NamespaceHolder } from './processes.ts';

/** A volume's disk while it is attached. */
export interface Disk {
  /** e.g. `/dev/loop3` */
  readonly path: string;
  readonly major: number;
  readonly minor: number;
}

/** Room for all volumes and snapshots. The file is sparse: it takes what is written. */
const POOL_BYTES = 2 ** 40;
/** Less than mkfs would take for a pool of this size: the log is written in full when the pool is made. */
const POOL_LOG = '64m';

/**
 * Volumes and snapshots as sparse files on an XFS of the drill's own, where a copy of a file shares its blocks: a snapshot
 * is one system call, atomic with regard to writes. Attached volumes are loop devices with direct I/O, so what the guest
 * has not written to its disk is not in the file.
 */
export class VolumePool {
  readonly #holder: NamespaceHolder;
  readonly #files: string;
  readonly #disks = new Map<string, Disk>();
  readonly #attaching = new Set<Promise<Disk>>();

  private constructor(holder: NamespaceHolder, files: string) {
    this.#holder = holder;
    this.#files = files;
  }

  /** @param directory an existing directory; the pool is mounted there, seen by the pool's holder only */
  static async start(directory: string): Promise<VolumePool> {
    // the last name tells whose a loop device is when nothing else is left
    const pool = `${directory}/pool`;
    const files = `${pool}/${basename(directory)}`;
    const script = `set -e
      mkdir "$1"; truncate --size ${POOL_BYTES} "$1.img"; mkfs.xfs -q -m reflink=1 -l size=${POOL_LOG} "$1.img"
      mount -o loop,noatime "$1.img" "$1"; mkdir "$2"; echo ready; exec sleep infinity`;
    const holder = await NamespaceHolder.start(['--mount'], ['bash', '-c', script, 'pool', pool, files]);
    return new VolumePool(holder, files);
  }

  /** The file of a volume or snapshot, as the pool's holder sees it. */
  #inside(id: string): string {
    return `${this.#files}/${id}`;
  }

  /** The same file, as the drill sees it. */
  #file(id: string): string {
    return `/proc/${this.#holder.pid}/root${this.#inside(id)}`;
  }

  async create(volume: GuestVolume, fromSnapshotId?: string): Promise<void> {
    if (fromSnapshotId !== undefined) this.copy(fromSnapshotId, volume.volumeId);
    const file = await open(this.#file(volume.volumeId), fromSnapshotId === undefined ? 'wx' : 'r+');
    try {
      const bytes = volume.sizeGiB * 2 ** 30;
      if (bytes < (await file.stat()).size) throw new Error(`${volume.volumeId} is smaller than ${fromSnapshotId}`);
      await file.truncate(bytes);
    } finally {
      await file.close();
    }
  }

  /** The volume becomes larger; the device of an attached one too, while it is in use. */
  async resize(volumeId: string, sizeGiB: number): Promise<void> {
    await truncate(this.#file(volumeId), sizeGiB * 2 ** 30);
    await Promise.allSettled(this.#attaching);
    const disk = this.#disks.get(volumeId);
    if (disk) await checked(['losetup', '--set-capacity', disk.path]);
  }

  async delete(id: string): Promise<void> {
    await rm(this.#file(id));
  }

  /** An atomic copy of a volume or snapshot as it is at this moment, under another id. */
  copy(fromId: string, toId: string): void {
    copyFileSync(this.#file(fromId), this.#file(toId), constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
  }

  /** Changes bytes of a volume that is not attached, or of a snapshot. @param offset in bytes, from its beginning */
  async overwrite(id: string, offset: number, bytes: Uint8Array): Promise<void> {
    const file = await open(this.#file(id), 'r+');
    try {
      await file.write(bytes, 0, bytes.length, offset);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Puts `fromId` in the place of `toId`, which is not attached. */
  async replace(toId: string, fromId: string): Promise<void> {
    await rename(this.#file(fromId), this.#file(toId));
  }

  /** Makes the volume's disk; a volume has one at most. 4096-byte sectors: shared blocks allow direct I/O in these units only. */
  async attach(volumeId: string): Promise<Disk> {
    if (this.#disks.has(volumeId)) throw new Error(`${volumeId} is attached already`);
    const attaching = this.#attach(volumeId);
    this.#attaching.add(attaching);
    return attaching.finally(() => this.#attaching.delete(attaching));
  }

  async #attach(volumeId: string): Promise<Disk> {
    const losetup = ['losetup', '--find', '--show', '--direct-io=on', '--sector-size', '4096', this.#inside(volumeId)];
    const path = await checked(this.#holder.enter(['--mount'], losetup));
    const { rdev } = await stat(path);
    const disk = { path, major: (rdev >> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00) };
    this.#disks.set(volumeId, disk);
    return disk;
  }

  disk(volumeId: string): Disk | undefined {
    return this.#disks.get(volumeId);
  }

  /** The volume must be unused. */
  async detach(volumeId: string): Promise<void> {
    const disk = this.#disks.get(volumeId);
    if (!disk) return;
    await checked(['losetup', '--detach', disk.path]);
    this.#disks.delete(volumeId);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#attaching);
    for (const volumeId of [...this.#disks.keys()]) await this.detach(volumeId);
    await this.#holder.end();
  }
}

/** Whether any process of the machine has the disk mounted or open, or the kernel has it in use for another reason. */
export function inUse(disk: Disk): boolean {
  if (claimed(disk)) return true;
  const rdev = (disk.minor & 0xff) | (disk.major << 8) | ((disk.minor & ~0xff) << 12);
  return processes().some((pid) => mounts(pid, disk) || hasOpen(pid, rdev));
}

/** A mounted file system claims its device, also after `umount --lazy`: then nobody can open it exclusively. */
function claimed(disk: Disk): boolean {
  try {
    closeSync(openSync(disk.path, constants.O_RDONLY | constants.O_EXCL));
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return true;
    throw error;
  }
}

function processes(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
}

function mounts(pid: string, disk: Disk): boolean {
  return orWhenGone(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(` ${disk.major}:${disk.minor} `));
}

function hasOpen(pid: string, rdev: number): boolean {
  return orWhenGone(() => readdirSync(`/proc/${pid}/fd`).some((fd) => isDevice(`/proc/${pid}/fd/${fd}`, rdev)));
}

function isDevice(descriptor: string, rdev: number): boolean {
  return orWhenGone(() => readlinkSync(descriptor).startsWith('/dev/') && statSync(descriptor).rdev === rdev);
}

/** A process, or a descriptor of it, may end while it is looked at. */
function orWhenGone(look: () => boolean): boolean {
  try {
    return look();
  } catch {
    return false;
  }
}
