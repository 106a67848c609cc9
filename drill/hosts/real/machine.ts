import { readFileSync } from 'node:fs';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RealClock } from '../../cloud/clock.ts';
import { instanceType } from '../../cloud/ec2/instance-types.ts';
import type { GuestVolume, Host, HostIdentity, RunResult, RunScript } from '../host.ts';
import { ENDPOINT_URL, type Network } from './network.ts';
import { execute, NamespaceHolder, type Outcome } from './processes.ts';
import { inUse, type VolumePool } from './volumes.ts';

const NAMESPACES = ['--mount', '--net', '--uts', '--ipc'];
const ENVIRONMENT = {
  PATH: '/opt/drill/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
  AWS_ENDPOINT_URL: ENDPOINT_URL,
};
const USER_DATA = '/var/lib/cloud/instance/scripts/part-001';
/** How long the kernel may take to let go of the disks of a host that has ended. */
const RELEASE_MS = 20_000;
const BY_ID = '/dev/disk/by-id';
const clock = new RealClock(); // real machines live in real time

/** For hosts that run the machine's own Docker. */
export interface DockerSettings {
  /** What a pull brings, whatever it names: an image of the machine's engine. */
  readonly image: string;
  /** The cgroup of all containers, e.g. `/keeper-drill-1` */
  readonly cgroup: string;
}

export interface MachineOptions {
  readonly identity: HostIdentity;
  readonly pool: VolumePool;
  readonly network: Network;
  /** A directory of this machine's own, not yet there. */
  readonly directory: string;
  /** What goes to /opt/drill. */
  readonly guestDirectory: string;
  /** Set when containers are real ones. */
  readonly docker?: DockerSettings;
  readonly onOutput: (line: string) => void;
  /** Its user data has ended by itself. */
  readonly onUserDataEnd: (outcome: Outcome) => void;
  /** Milliseconds that these take on this host; asked when it boots. */
  readonly latency: (name: 'host.installDocker' | 'host.pullImage') => number;
}

/** A host in namespaces of its own: root file system, processes, network, devices. */
export class Machine implements Host {
  readonly #options: MachineOptions;
  readonly #holder: NamespaceHolder;
  /** volume id → name of its device in the guest, e.g. `nvme1n1` */
  readonly #devices = new Map<string, string>();
  #addresses: readonly string[] = [];
  #scripts = 0;
  #ended: Promise<void> | undefined;

  private constructor(options: MachineOptions, holder: NamespaceHolder) {
    this.#options = options;
    this.#holder = holder;
  }

  static async start(options: MachineOptions): Promise<Machine> {
    const { identity, network, directory } = options;
    await mkdir(directory);
    const holder = await NamespaceHolder.start(
      NAMESPACES,
      [fileURLToPath(new URL('./host-init.sh', import.meta.url))],
      {
        HOST_NAME: `ip-${identity.privateIp.replaceAll('.', '-')}`,
        HOST_DIRECTORY: directory,
        GUEST_DIRECTORY: options.guestDirectory,
        NODE: process.execPath,
        MEMORY_KIB: String(instanceType(identity.instanceType).memoryMiB * 1024),
        ...(options.docker && { IMAGE: options.docker.image, CGROUP: options.docker.cgroup }),
      },
    );
    const machine = new Machine(options, holder);
    try {
      await network.connect(identity.instanceId, holder.pid, identity.privateIp, identity.macAddress);
      await machine.setAddresses([identity.privateIp]);
      return machine;
    } catch (error) {
      await holder.end();
      throw error;
    }
  }

  get addresses(): readonly string[] {
    return this.#addresses;
  }

  boot(userData: string): void {
    void this.#boot(userData).catch((error: unknown) => {
      if (!this.#ended) this.#options.onUserDataEnd({ exitCode: 126, stdout: '', stderr: `${error}` });
    });
  }

  async #boot(userData: string): Promise<void> {
    const { latency, onOutput, onUserDataEnd } = this.#options;
    await this.#write('/run/drill/latency/install-docker', String(latency('host.installDocker') / 1000));
    await this.#write('/run/drill/latency/pull-image', String(latency('host.pullImage') / 1000));
    await this.#write(USER_DATA, userData, 0o700);
    const outcome = await execute(this.#inside([USER_DATA]), { env: ENVIRONMENT, onLine: onOutput });
    if (!this.#ended) onUserDataEnd(outcome);
  }

  async attach(volume: GuestVolume): Promise<void> {
    if (this.#devices.has(volume.volumeId)) return;
    const { path } = await this.#options.pool.attach(volume.volumeId);
    const taken = [...this.#devices.values()];
    const name = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => `nvme${number}n1`).find((free) => !taken.includes(free));
    if (name === undefined) throw new Error(`${this.#options.identity.instanceId} has no room for another volume`);
    this.#devices.set(volume.volumeId, name);
    // the link appears last: whoever sees it can open the device
    await execute(['cp', '--archive', path, this.#path(`/dev/${name}`)]);
    await symlink(`../../${name}`, this.#path(link(volume.volumeId)));
  }

  async detach(volumeId: string): Promise<'detached' | 'busy'> {
    const disk = this.#options.pool.disk(volumeId);
    const name = this.#devices.get(volumeId);
    if (!disk || name === undefined) return 'detached';
    if (inUse(disk)) return 'busy';
    await rm(this.#path(link(volumeId)));
    await rm(this.#path(`/dev/${name}`));
    this.#devices.delete(volumeId);
    await this.#options.pool.detach(volumeId);
    return 'detached';
  }

  async setAddresses(addresses: readonly string[]): Promise<void> {
    if (this.#ended) return; // nobody is there to receive anything
    this.#addresses = addresses;
    await this.#options.network.setAddresses(this.#options.identity.instanceId, addresses);
  }

  /** As the agent does: the script is a file, started by `sh`, so its first line decides about its shell. */
  async run({ script, environment, timeoutSeconds }: RunScript): Promise<RunResult> {
    const path = `/var/lib/amazon/ssm/${this.#scripts++}/_script.sh`;
    await this.#write(path, script, 0o700);
    const began = clock.now();
    // `timeout` leads a process group and kills all of it, itself included
    const command = this.#inside(['timeout', '--signal', 'KILL', String(timeoutSeconds), 'sh', '-c', path]);
    const outcome = await execute(command, { env: { ...ENVIRONMENT, ...environment } });
    const timedOut = outcome.exitCode === 137 && clock.now() - began >= timeoutSeconds * 1000;
    return { ...outcome, timedOut };
  }

  shutdown(how: 'os' | 'hard'): Promise<void> {
    this.#ended ??= this.#shutdown(how);
    return this.#ended;
  }

  /** Ends it whatever it is doing, also in the middle of a shutdown. */
  async destroy(): Promise<void> {
    const shutdown = this.#ended;
    if (!shutdown) return this.shutdown('hard');
    await this.#holder.end();
    await shutdown.catch(() => {}); // what it does not get to, the pool does
  }

  /**
   * Power off: what had been written to the disks after the network fell silent is what is on them afterwards. So nothing
   * that a client was told can be missing through this model's doing, and nothing that was only in the guest's memory
   * survives. What it cannot lose is a write that the disk took and that was not yet flushed: the disk has no cache of its
   * own.
   */
  async #shutdown(how: 'os' | 'hard'): Promise<void> {
    const { pool, network, identity } = this.#options;
    const volumeIds = [...this.#devices.keys()];
    if (how === 'os') {
      const script = readFileSync(new URL('./shutdown.sh', import.meta.url), 'utf8');
      await execute(this.#inside(['bash', '-c', script]), { env: ENVIRONMENT });
    }
    await network.disconnect(identity.instanceId);
    if (how === 'hard') for (const volumeId of volumeIds) pool.copy(volumeId, `${volumeId}.power-off`);
    await this.#holder.end();
    for (const volumeId of volumeIds) {
      await this.#waitUntilUnused(volumeId);
      await pool.detach(volumeId);
      if (how === 'hard') await pool.replace(volumeId, `${volumeId}.power-off`);
    }
    this.#devices.clear();
    await rm(this.#options.directory, { recursive: true, force: true });
  }

  async #waitUntilUnused(volumeId: string): Promise<void> {
    const deadline = clock.now() + RELEASE_MS;
    for (let disk = this.#options.pool.disk(volumeId); disk && inUse(disk); ) {
      if (clock.now() > deadline) throw new Error(`${volumeId} is still in use after its host has ended`);
      await clock.sleep(10);
    }
  }

  /** A path of the guest, as the drill sees it. */
  #path(path: string): string {
    return `/proc/${this.#holder.pid}/root${path}`;
  }

  async #write(path: string, content: string, mode = 0o600): Promise<void> {
    await mkdir(dirname(this.#path(path)), { recursive: true });
    await writeFile(this.#path(path), content, { mode });
  }

  #inside(command: readonly string[]): readonly string[] {
    return this.#holder.enter([...NAMESPACES, '--pid', '--wd'], command);
  }
}

function link(volumeId: string): string {
  return `${BY_ID}/nvme-Amazon_Elastic_Block_Store_${volumeId.replace('-', '')}`;
}
