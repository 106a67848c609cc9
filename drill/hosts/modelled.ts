import type { Cloud } from '../cloud/kernel.ts';
import type { GuestVolume, Host, HostIdentity, HostRuntime } from './host.ts';
import { ModelledClient } from './modelled/client.ts';
import { blankDisk, copyDisk, countRows, type Disk, type DiskContent } from './modelled/disk.ts';
import { type HostFault, ModelledHost } from './modelled/host.ts';

export type { Gap, Ledger, ModelledClient } from './modelled/client.ts';
export type { HostFault } from './modelled/host.ts';

export interface ModelledHostsOptions {
  /** What is wrong with a host, asked each time one is made; `number` counts those of this run from 0. */
  readonly faults?: (identity: HostIdentity, number: number) => readonly HostFault[];
}

/** What is on a modelled volume, for checks. */
export interface VolumeView {
  readonly sizeGiB: number;
  /** 0 before it is formatted. */
  readonly fileSystemGiB: number;
  readonly formatted: boolean;
  /** The database that has its data directory on it. */
  readonly database: string | undefined;
  readonly cleanlyShutDown: boolean;
  readonly rows: number;
  /** The ids of those that are kept, the newest last. */
  readonly censuses: readonly string[];
  /** The hosts whose PostgreSQL runs on it. */
  readonly writers: readonly string[];
}

/**
 * Hosts for virtual time: machines without processes that behave as the scripts in commands/ do, on volumes of which
 * only the meaning is kept. Promises that are broken on them are recorded as `broken-promise`.
 */
export class ModelledHosts implements HostRuntime {
  readonly #cloud: Cloud;
  readonly #options: ModelledHostsOptions;
  readonly #hosts = new Map<string, ModelledHost>();
  readonly #disks = new Map<string, Disk>();
  readonly #snapshots = new Map<string, DiskContent>();
  readonly #clients: ModelledClient[] = [];
  #made = 0;

  constructor(cloud: Cloud, options: ModelledHostsOptions = {}) {
    this.#cloud = cloud;
    this.#options = options;
  }

  async createHost(identity: HostIdentity): Promise<Host> {
    const faults = this.#options.faults?.(identity, this.#made++) ?? [];
    const host = new ModelledHost(
      this.#cloud,
      {
        disk: (volumeId) => this.#disk(volumeId),
        settle: () => this.#settle(),
        brokenPromise: (subject, what) => this.#cloud.record('broken-promise', subject, { what }),
        livesElsewhere: (database, volumeId) => this.#livesElsewhere(database, volumeId),
      },
      identity,
      faults,
    );
    this.#hosts.set(identity.instanceId, host);
    return host;
  }

  async createVolume({ volumeId, sizeGiB }: GuestVolume, fromSnapshotId?: string): Promise<void> {
    const snapshot = fromSnapshotId === undefined ? blankDisk() : this.#snapshots.get(fromSnapshotId);
    if (!snapshot) throw new Error(`there is no snapshot ${fromSnapshotId}`);
    this.#disks.set(volumeId, { volumeId, sizeGiB, content: copyDisk(snapshot), writers: new Set() });
  }

  async resizeVolume(volumeId: string, sizeGiB: number): Promise<void> {
    this.#disk(volumeId).sizeGiB = sizeGiB;
  }

  async deleteVolume(volumeId: string): Promise<void> {
    if (this.#disk(volumeId).writers.size > 0) throw new Error(`${volumeId} is in use`);
    this.#disks.delete(volumeId);
  }

  async createSnapshot(snapshotId: string, volumeId: string): Promise<void> {
    this.#settle();
    this.#snapshots.set(snapshotId, copyDisk(this.#disk(volumeId).content));
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    this.#snapshots.delete(snapshotId);
  }

  async close(): Promise<void> {
    for (const host of this.#hosts.values()) await host.shutdown('hard');
  }

  /** A client outside that inserts rows through the address from now on. */
  connectClient(address: string, rowsPerSecond: number): ModelledClient {
    const name = `client-${this.#clients.length}`;
    const client = new ModelledClient(name, this.#cloud.clock, rowsPerSecond, () => this.#serving(address)[0]?.disk);
    this.#clients.push(client);
    return client;
  }

  /** The instance that serves clients at this address now. */
  servingHost(address: string): string | undefined {
    return this.#serving(address)[0]?.instanceId;
  }

  /** Fault: the guest of this instance freezes; see {@link ModelledHost.hang}. */
  hang(instanceId: string): void {
    this.#hosts.get(instanceId)?.hang();
  }

  /**
   * Fault: bytes of a volume or a snapshot change by themselves. Copies have what their original has when they are made.
   * @param what for people, e.g. `random bytes in public.events`
   */
  damage(id: string, what: string): void {
    this.#content(id).damage = what;
  }

  /** Fault: the newest `count` rows of each client are missing from a volume or a snapshot. */
  loseRows(id: string, count: number): void {
    for (const rows of this.#content(id).rows.values()) rows.dropNewest(count);
  }

  /** Fault: the newest census is missing from a volume or a snapshot, as after the loss of the end of the WAL. */
  loseCensus(id: string): void {
    const content = this.#content(id);
    content.censuses = content.censuses.slice(0, -1);
  }

  /** The numbers of the rows that clients wrote to a volume or have in a snapshot. */
  rowsIn(id: string): ReadonlySet<number> {
    return new Set([...this.#content(id).rows.values()].flatMap((rows) => [...rows]));
  }

  volume(volumeId: string): VolumeView | undefined {
    this.#settle();
    const disk = this.#disks.get(volumeId);
    if (!disk) return undefined;
    const { formatted, fileSystemGiB, database, cleanlyShutDown, censuses } = disk.content;
    return {
      sizeGiB: disk.sizeGiB,
      fileSystemGiB,
      formatted,
      database,
      cleanlyShutDown,
      rows: countRows(disk.content),
      censuses: censuses.map(({ id }) => id),
      writers: [...disk.writers],
    };
  }

  #content(id: string): DiskContent {
    this.#settle();
    return this.#snapshots.get(id) ?? this.#disk(id).content;
  }

  #disk(volumeId: string): Disk {
    const disk = this.#disks.get(volumeId);
    if (!disk) throw new Error(`there is no volume ${volumeId}`);
    return disk;
  }

  #settle(): void {
    for (const client of this.#clients) client.settle();
  }

  #serving(address: string): { instanceId: string; disk: Disk }[] {
    const serving: { instanceId: string; disk: Disk }[] = [];
    for (const [instanceId, host] of this.#hosts) {
      const disk = host.serves(address);
      if (disk) serving.push({ instanceId, disk });
    }
    return serving;
  }

  // Clones count too: where there is one, the database has been initialised before.
  #livesElsewhere(database: string, volumeId: string): boolean {
    return [...this.#disks.values()].some((disk) => disk.volumeId !== volumeId && disk.content.database === database);
  }
}
