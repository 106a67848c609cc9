/** What Keeper sees of one instance. */
export interface HostState {
  readonly id: string;
  readonly state: 'pending' | 'running' | 'shutting-down' | 'terminated' | 'stopping' | 'stopped';
  readonly lifecycle: 'spot' | 'on-demand';
  /** e.g. `t4g.small` */
  readonly instanceType: string;
  /** The AMI that it was launched from. */
  readonly imageId: string;
  /** The container image that it was launched for; absent on hosts that do not say so. */
  readonly image?: string;
  /** The relocation that launched it, if it was one. */
  readonly execution?: string;
  /** Milliseconds since the epoch. */
  readonly launchedAt: number;
  /** Whether it was proven, with a write, that it serves the database. */
  readonly verified: boolean;
  /** When AWS announced that it takes this host, in milliseconds since the epoch. */
  readonly interruptedAt?: number;
  /** Whether EC2's status checks of it fail; absent where nobody has asked. */
  readonly impaired?: boolean;
  /** The network interface on which the database's address would be put. */
  readonly interfaceId?: string;
  /** Whether the database's address is on its interface. */
  readonly hasAddress: boolean;
}

/** What Keeper sees of the data volume. gp3 attaches to one instance at most. */
export interface VolumeState {
  readonly id: string;
  readonly state: 'creating' | 'available' | 'in-use' | 'deleting' | 'deleted' | 'error';
  readonly sizeGiB: number;
  readonly attachment?: {
    readonly hostId: string;
    readonly state: 'attaching' | 'attached' | 'detaching' | 'busy';
  };
  /** Marked as blank: it may be formatted when it also holds nothing. */
  readonly blank: boolean;
  /** What its tag `keeper:modified-at` says; absent when Keeper has never had it modified. */
  readonly modifiedAt?: string;
}

/** One database as it is at a moment: its volume and every host that carries its tag (terminated ones too). */
export interface DatabaseState {
  readonly volume: VolumeState;
  readonly hosts: readonly HostState[];
}

/** The host that the volume is attached to, or on its way to or from. */
export function holderOf(state: DatabaseState): HostState | undefined {
  const hostId = state.volume.attachment?.hostId;
  return state.hosts.find((host) => host.id === hostId);
}

/** The host that serves: running, with the attached volume and the address. */
export function servingHost(state: DatabaseState): HostState | undefined {
  const holder = holderOf(state);
  const serves = holder?.state === 'running' && holder.hasAddress && state.volume.attachment?.state === 'attached';
  return serves ? holder : undefined;
}

/** Whether the instance exists and has not begun to go away. */
export function isAlive(host: HostState): boolean {
  return host.state === 'pending' || host.state === 'running';
}
