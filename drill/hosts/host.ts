/** What EC2 and Systems Manager need of a machine; the real hosts and the modelled ones are the two implementations. */
export interface Host {
  /** Starts the machine's own work: it runs its user data (already decoded). Called once, when EC2 says it boots. */
  boot(userData: string): void;
  /** The volume's device appears in the guest. */
  attach(volume: GuestVolume): Promise<void>;
  /**
   * EBS takes the device away. `busy` when the guest still uses it (mounted, or open by a process): then nothing
   * changed, and EBS asks again later.
   */
  detach(volumeId: string): Promise<'detached' | 'busy'>;
  /** The addresses that the network delivers to this host's interface, its primary one first. */
  setAddresses(addresses: readonly string[]): Promise<void>;
  /** Run Command: runs the script as root with these variables, kills it after the timeout. */
  run(script: RunScript): Promise<RunResult>;
  /**
   * The machine ends. `os`: an operating system shutdown first (processes get SIGTERM, then SIGKILL, file systems are
   * unmounted). `hard`: power off; what was not flushed is lost. Afterwards no process of it runs and it holds no device.
   */
  shutdown(how: 'os' | 'hard'): Promise<void>;
}

export interface GuestVolume {
  /** e.g. `vol-0123456789abcdef0` */
  readonly volumeId: string;
  readonly sizeGiB: number;
}

export interface RunScript {
  /** The document's name, e.g. for a modelled host to know what to do. */
  readonly document: string;
  readonly script: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
}

export interface RunResult {
  /** 0 success; 137 when it was killed at its timeout */
  readonly exitCode: number;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export interface HostIdentity {
  readonly instanceId: string;
  readonly instanceType: string;
  /** e.g. `us-east-1a` */
  readonly zone: string;
  readonly privateIp: string;
  readonly macAddress: string;
  readonly interfaceId: string;
  /** The role of its instance profile: calls that it makes are evaluated against it. */
  readonly roleArn: string;
}

/** Volumes live longer than hosts: the runtime keeps what is on them. */
export interface HostRuntime {
  createHost(identity: HostIdentity): Promise<Host>;
  /** A new volume, empty, or with the content of a snapshot. */
  createVolume(volume: GuestVolume, fromSnapshotId?: string): Promise<void>;
  /** The volume is larger from now on; where it is attached, its device in the guest is too. What is on it stays as it is. */
  resizeVolume(volumeId: string, sizeGiB: number): Promise<void>;
  deleteVolume(volumeId: string): Promise<void>;
  /** An atomic, crash-consistent copy of the volume as it is at this moment. */
  createSnapshot(snapshotId: string, volumeId: string): Promise<void>;
  deleteSnapshot(snapshotId: string): Promise<void>;
  /** Ends everything that it started and removes everything that it made. Safe to call twice. */
  close(): Promise<void>;
}
