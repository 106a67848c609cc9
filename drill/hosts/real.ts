import { cp, mkdir } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { NotModelled } from '../cloud/kernel.ts';
import type { Credentials } from '../cloud/wire/endpoint.ts';
import type { GuestVolume, Host, HostIdentity, HostRuntime } from './host.ts';
import { directoryName, removeDirectory, sweepLeftovers } from './real/leftovers.ts';
import { Machine } from './real/machine.ts';
import { MetadataService } from './real/metadata.ts';
import { Network } from './real/network.ts';
import type { Outcome } from './real/processes.ts';
import { VolumePool } from './real/volumes.ts';

export { sweepLeftovers } from './real/leftovers.ts';

export interface RealHostsOptions {
  readonly region: string;
  /** The Unix socket on which the local cloud's AWS endpoint listens. */
  readonly endpointSocket: string;
  /** An image that the machine's Docker engine has: containers are real ones, made of it. Without, a stand-in runs them. */
  readonly image?: string;
  /** The temporary credentials of a host's role, which its metadata service hands out. */
  readonly credentialsFor: (identity: HostIdentity) => Credentials & { readonly expiration: Date };
  /** Milliseconds that these take on a host; asked when it boots. */
  readonly latency: (name: 'host.installDocker' | 'host.pullImage', instanceId: string) => number;
  /** What a host's user data prints. */
  readonly onOutput?: (instanceId: string, line: string) => void;
  /** A host's user data has ended, and not because the host did. */
  readonly onUserDataEnd?: (instanceId: string, outcome: Outcome) => void;
}

/** By primary address: a later host may get that of one that has ended. */
type Machines = Map<string, { readonly identity: HostIdentity; readonly machine: Machine }>;

/**
 * Hosts with real disks, on Linux as root: each is a set of namespaces with a root file system, processes and network
 * interface of its own; a volume is a loop device, a snapshot an atomic copy. All of them share the machine's kernel and
 * page cache. There are stand-ins for `dnf`, `systemctl` and `aws`; `docker` is the machine's own, with a daemon on each
 * host, or a stand-in that runs the machine's PostgreSQL.
 *
 * The kernel ends every process of this runtime together with the one that started it. What then remains, loop devices
 * and files, the next start removes.
 */
export class RealHosts implements HostRuntime {
  readonly #options: RealHostsOptions;
  readonly #directory: string;
  readonly #pool: VolumePool;
  readonly #network: Network;
  readonly #metadata: MetadataService;
  readonly #machines: Machines;
  readonly #instanceIds = new Set<string>();
  /** All that were ever begun. */
  readonly #starting: Promise<Machine>[] = [];
  #closed: Promise<void> | undefined;

  private constructor(
    options: RealHostsOptions,
    directory: string,
    parts: { pool: VolumePool; network: Network; metadata: MetadataService },
    machines: Machines,
  ) {
    this.#options = options;
    this.#directory = directory;
    this.#pool = parts.pool;
    this.#network = parts.network;
    this.#metadata = parts.metadata;
    this.#machines = machines;
  }

  /** @throws Error when this is not Linux, or the process is not root */
  static async start(options: RealHostsOptions): Promise<RealHosts> {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      throw new Error('hosts with real disks need Linux and root');
    }
    await sweepLeftovers();
    const directory = directoryName();
    await mkdir(directory, { mode: 0o700 });
    await prepareGuest(`${directory}/guest`, options.image !== undefined);
    const machines: Machines = new Map();
    const metadata = await MetadataService.listen(`${directory}/metadata`, (address) => {
      const found = machines.get(address);
      if (!found) return undefined;
      const { identity, machine } = found;
      const credentials = () => options.credentialsFor(identity);
      return { identity, region: options.region, addresses: machine.addresses, credentials };
    });
    const starting = [
      VolumePool.start(directory),
      Network.start({ metadata: `${directory}/metadata`, endpoint: options.endpointSocket }),
    ] as const;
    try {
      const [pool, network] = await Promise.all(starting);
      return new RealHosts(options, directory, { pool, network, metadata }, machines);
    } catch (error) {
      const started = await Promise.allSettled(starting);
      for (const part of started) if (part.status === 'fulfilled') await part.value.close();
      await metadata.close();
      await removeDirectory(directory);
      throw error;
    }
  }

  async createHost(identity: HostIdentity): Promise<Host> {
    if (this.#closed) throw new Error('the hosts are closed');
    const { instanceId } = identity;
    if (this.#instanceIds.has(instanceId)) throw new NotModelled(`the restart of the real host ${instanceId}`);
    this.#instanceIds.add(instanceId);
    const starting = Machine.start({
      identity,
      pool: this.#pool,
      network: this.#network,
      directory: `${this.#directory}/${instanceId}`,
      guestDirectory: `${this.#directory}/guest`,
      ...(this.#options.image !== undefined && {
        docker: { image: this.#options.image, cgroup: `/${basename(this.#directory)}` },
      }),
      onOutput: (line) => this.#options.onOutput?.(instanceId, line),
      onUserDataEnd: (outcome) => this.#options.onUserDataEnd?.(instanceId, outcome),
      latency: (name) => this.#options.latency(name, instanceId),
    });
    this.#starting.push(starting);
    const machine = await starting;
    this.#machines.set(identity.privateIp, { identity, machine });
    return machine;
  }

  createVolume(volume: GuestVolume, fromSnapshotId?: string): Promise<void> {
    return this.#pool.create(volume, fromSnapshotId);
  }

  resizeVolume(volumeId: string, sizeGiB: number): Promise<void> {
    return this.#pool.resize(volumeId, sizeGiB);
  }

  deleteVolume(volumeId: string): Promise<void> {
    return this.#pool.delete(volumeId);
  }

  async createSnapshot(snapshotId: string, volumeId: string): Promise<void> {
    this.#pool.copy(volumeId, snapshotId);
  }

  deleteSnapshot(snapshotId: string): Promise<void> {
    return this.#pool.delete(snapshotId);
  }

  /** Fault: bytes of a snapshot change by themselves. @param offset in bytes, from the beginning of the volume */
  damage(snapshotId: string, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#pool.overwrite(snapshotId, offset, bytes);
  }

  /** argv that runs `command` where the database's clients are: outside of all hosts, in the same network. */
  onClient(command: readonly string[]): readonly string[] {
    return this.#network.onClient(command);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const started = await Promise.allSettled(this.#starting);
    await Promise.all(started.map((each) => each.status === 'fulfilled' && each.value.destroy()));
    await this.#pool.close();
    await Promise.all([this.#network.close(), this.#metadata.close()]);
    await removeDirectory(this.#directory);
  }
}

/** What every host gets as /opt/drill. */
async function prepareGuest(directory: string, withDocker: boolean): Promise<void> {
  await cp(fileURLToPath(new URL('./real/guest', import.meta.url)), directory, { recursive: true });
  if (withDocker) await cp(`${directory}/engine`, `${directory}/available`, { recursive: true });
  await build({
    entryPoints: [fileURLToPath(new URL('./real/aws.ts', import.meta.url))],
    outfile: `${directory}/libexec/aws.mjs`,
    bundle: true,
    platform: 'node',
    format: 'esm',
    minify: true,
    logLevel: 'error',
    // CommonJS inside of the bundle calls `require` for Node's own modules
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
}
