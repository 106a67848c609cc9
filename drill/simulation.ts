import { VirtualClock } from './cloud/clock.ts';
import type { Faults } from './cloud/kernel.ts';
import type { PublishedMessage } from './cloud/sns.ts';
import type { HostIdentity } from './hosts/host.ts';
import { type HostFault, type Ledger, type ModelledClient, ModelledHosts } from './hosts/modelled.ts';
import { createLocalCloud, type LocalCloud } from './local-cloud.ts';
import { type BrokenPromise, PromiseWatch } from './promises.ts';

export interface SimulationOptions {
  /** The folder that `cdk synth` wrote. */
  readonly assembly: string;
  readonly database: string;
  readonly seed: number;
  /** What goes wrong from the moment the first host serves. */
  readonly faults?: Faults;
  /** What is wrong with a host; `number` 0 is the first replacement. */
  readonly hostFaults?: (number: number, identity: HostIdentity) => readonly HostFault[];
}

/** How an execution of a workflow ended. */
export interface Ending {
  readonly name: string;
  readonly status: string;
  readonly output: unknown;
  readonly error: string | undefined;
  readonly cause: string | undefined;
}

/** The whole app on the virtual clock, with modelled hosts and a client that writes. It begins when a first host serves. */
export class Simulation {
  readonly clock: VirtualClock;
  readonly local: LocalCloud<ModelledHosts>;
  readonly client: ModelledClient;
  readonly watch: PromiseWatch;
  readonly database: string;
  readonly #firstExecutions: number;

  private constructor(
    clock: VirtualClock,
    local: LocalCloud<ModelledHosts>,
    watch: PromiseWatch,
    database: string,
    client: ModelledClient,
  ) {
    this.clock = clock;
    this.local = local;
    this.watch = watch;
    this.database = database;
    this.client = client;
    this.#firstExecutions = local.states.executions.length;
  }

  /** Deploys, lets the database come up for the first time, and connects a client with 200 rows a second. */
  static async start({ assembly, database, seed, faults, hostFaults }: SimulationOptions): Promise<Simulation> {
    const clock = new VirtualClock();
    const local = await createLocalCloud({
      clock,
      seed,
      hosts: (cloud) =>
        new ModelledHosts(cloud, {
          faults: (identity, number) => (number === 0 ? [] : (hostFaults?.(number - 1, identity) ?? [])),
        }),
    });
    const watch = new PromiseWatch(local, database);
    await clock.run(local.deploy(assembly));
    const isDone = () => local.states.executions.some(({ status }) => status === 'SUCCEEDED');
    for (let minutes = 0; !isDone(); minutes++) {
      if (minutes > 30) throw new Error(`the first host does not serve: ${JSON.stringify(local.sns.messages)}`);
      await clock.pass(60_000);
      if (local.cloud.failure) throw local.cloud.failure;
    }
    const address = local.cloud.happenings.findLast(({ kind }) => kind === 'address')?.subject ?? '';
    const client = local.hosts.connectClient(address, 200);
    await clock.pass(10_000);
    local.cloud.faults = faults ?? {};
    return new Simulation(clock, local, watch, database, client);
  }

  /** The instance that holds the live volume. */
  get holder(): string {
    const holder = this.watch.liveVolume()?.attachment?.instanceId;
    if (!holder) throw new Error('no host holds the volume');
    return holder;
  }

  /** Lets time pass. @throws Error of the local cloud itself, which makes the run void */
  async pass(seconds: number): Promise<void> {
    await this.clock.pass(seconds * 1000);
    if (this.local.cloud.failure) throw this.local.cloud.failure;
  }

  /** Lets a minute pass, and then more until no relocation runs any longer and hosts have ended, at most so many seconds. */
  async settle(limitSeconds = 3_600): Promise<void> {
    const restless = () =>
      this.local.states.executions.some(({ status }) => status === 'RUNNING') ||
      this.local.ec2.machines().some(({ state }) => state === 'pending' || state === 'shutting-down');
    await this.pass(60);
    for (let passed = 0; passed < limitSeconds && restless(); passed += 5) await this.pass(5);
    await this.pass(5);
  }

  /** How the relocations ended that began after the first host served, oldest first. */
  get endings(): Ending[] {
    return this.local.states.executions
      .slice(this.#firstExecutions)
      .filter(({ name, machine }) => machine.name.endsWith('-relocate') && name.startsWith(this.database))
      .map(({ name, status, output, error, cause }) => ({ name, status, output, error, cause }));
  }

  get messages(): readonly PublishedMessage[] {
    return this.local.sns.messages;
  }

  /** Whether a client can write at this moment. */
  get serves(): boolean {
    const address = this.local.cloud.happenings.findLast(({ kind }) => kind === 'address')?.subject ?? '';
    return this.local.hosts.servingHost(address) !== undefined;
  }

  ledger(): Ledger {
    return this.client.ledger();
  }

  /** Milliseconds of the longest gap between acknowledged rows. */
  downtime(): number {
    return Math.max(0, ...this.ledger().gaps.map(({ from, to }) => to - from));
  }

  /** All that must hold at the end: broken promises, denied calls, lost rows. Empty is good. */
  violations(): string[] {
    this.watch.conclude();
    const { lost } = this.ledger();
    return [
      ...this.watch.broken.map(({ promise, detail }: BrokenPromise) => `${promise}: ${detail}`),
      ...this.local.cloud.denied.map(({ action, resource, role }) => `denied: ${action} on ${resource} for ${role}`),
      ...(lost > 0 ? [`nothing is lost: ${lost} acknowledged rows are gone`] : []),
    ];
  }
}
