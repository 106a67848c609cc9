import { VirtualClock } from './cloud/clock.ts';
import { AwsError, type Faults, type ServiceName, type Shape } from './cloud/kernel.ts';
import type { PublishedMessage } from './cloud/sns.ts';
import type { Execution } from './cloud/states/execution.ts';
import type { HostIdentity } from './hosts/host.ts';
import { type HostFault, type Ledger, type ModelledClient, ModelledHosts } from './hosts/modelled.ts';
import { createLocalCloud, type LocalCloud } from './local-cloud.ts';
import { type BrokenPromise, PromiseWatch } from './promises.ts';
import { placeFirstHost } from './simulate/first-host.ts';

export interface SimulationOptions {
  /** The folder that `cdk synth` wrote. */
  readonly assembly: string;
  readonly database: string;
  readonly seed: number;
  /** How the database comes to its first host: by its first relocation (default), or without Keeper, which is quick. */
  readonly firstHost?: 'relocated' | 'placed';
  /** What goes wrong from the moment the first host serves. */
  readonly faults?: Faults;
  /** What is wrong with a host; `number` 0 is the first replacement. */
  readonly hostFaults?: (number: number, identity: HostIdentity) => readonly HostFault[];
}

/** How long the database may be away before people have to know. */
const TELL_MINUTES = 10;

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
  readonly #address: string;

  private constructor(
    clock: VirtualClock,
    local: LocalCloud<ModelledHosts>,
    watch: PromiseWatch,
    database: string,
    client: ModelledClient,
    address: string,
  ) {
    this.#address = address;
    this.clock = clock;
    this.local = local;
    this.watch = watch;
    this.database = database;
    this.client = client;
    this.#firstExecutions = local.states.executions.length;
  }

  /** Deploys, brings the database up for the first time, and connects a client with 200 rows a second. */
  static async start(options: SimulationOptions): Promise<Simulation> {
    const { assembly, database, seed, faults, hostFaults } = options;
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
    const stacks = await clock.run(local.deploy(assembly));
    if (options.firstHost === 'placed') await placeFirstHost(local, clock, stacks, database);
    else await untilRelocated(local, clock);
    if (local.cloud.failure) throw local.cloud.failure;
    const address = local.cloud.happenings.findLast(({ kind }) => kind === 'address')?.subject ?? '';
    const client = local.hosts.connectClient(address, 200);
    await clock.pass(10_000);
    local.cloud.faults = faults ?? {};
    return new Simulation(clock, local, watch, database, client, address);
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

  /** Lets a minute pass, and then more until nothing moves any longer, at most so many seconds. */
  async settle(limitSeconds = 3_600): Promise<void> {
    await this.pass(60);
    for (let passed = 0; passed < limitSeconds && !this.isAtRest; passed += 5) await this.pass(5);
    await this.pass(5);
  }

  /** Whether no relocation runs, and no instance is on its way to another state. */
  get isAtRest(): boolean {
    return (
      this.local.states.executions.every(({ status }) => status !== 'RUNNING') &&
      this.local.ec2.machines().every(({ state }) => ['running', 'stopped', 'terminated'].includes(state))
    );
  }

  /** Whether clients are served now. */
  get serves(): boolean {
    return this.local.hosts.servingHost(this.#address) !== undefined;
  }

  /** The relocations that began after the first host served, oldest first. */
  get relocations(): readonly Execution[] {
    return this.local.states.executions
      .slice(this.#firstExecutions)
      .filter(({ name, machine }) => machine.name.endsWith('-relocate') && name.startsWith(this.database));
  }

  /** How they ended. */
  get endings(): Ending[] {
    return this.relocations.map(endingOf);
  }

  /** A person starts a workflow at the console, under a name that Step Functions makes up. */
  startWorkflow(name: 'relocate' | 'scale-up' | 'patch' | 'backup' | 'verify-backup', input: Shape): void {
    const machine = this.local.states.machines.find((each) => each.name === `keeper-${name}`);
    if (!machine) throw new Error(`there is no workflow ${name}`);
    this.asPerson('states', 'StartExecution', { stateMachineArn: machine.arn, input: JSON.stringify(input) });
  }

  /** How the runbooks that people have started ended, oldest first. */
  get runbooks(): Ending[] {
    return this.local.states.executions
      .filter(({ machine }) => /-(scale-up|patch|backup)$/.test(machine.name))
      .map(endingOf);
  }

  /** A person with all permissions calls an API, e.g. at the console. What AWS refuses them has no consequences. */
  asPerson(service: ServiceName, operation: string, input: Shape): void {
    const { cloud, iam } = this.local;
    cloud.call({ service, operation, input, caller: iam.administrator }).catch((error: Error) => {
      if (!(error instanceof AwsError)) cloud.fail(error);
    });
  }

  get messages(): readonly PublishedMessage[] {
    return this.local.sns.messages;
  }

  ledger(): Ledger {
    return this.client.ledger();
  }

  /** Milliseconds of the longest gap between acknowledged rows. */
  downtime(): number {
    return Math.max(0, ...this.ledger().gaps.map(({ from, to }) => to - from));
  }

  /** All that did not hold, to be asked when nothing moves any longer. Empty is good. */
  brokenPromises(): BrokenPromise[] {
    this.watch.conclude();
    const { cloud } = this.local;
    const at = this.clock.now();
    const { lost, gaps } = this.ledger();
    const open = gaps.find(({ to }) => to === at);
    const untold = gaps.filter(
      ({ from, to }) => to - from > TELL_MINUTES * 60_000 && !this.watch.wasTold(from - 60_000, TELL_MINUTES + 1),
    );
    return [
      ...this.watch.broken,
      ...cloud.denied.map(({ action, resource, role }): BrokenPromise => {
        return { promise: 'nothing is denied', at, detail: `${action} on ${resource} for ${role}` };
      }),
      ...(lost > 0
        ? [{ promise: 'nothing is lost', at, detail: `${lost} acknowledged rows are gone` } satisfies BrokenPromise]
        : []),
      ...untold.map(({ from, to }): BrokenPromise => {
        return {
          promise: 'it comes back',
          at: from,
          detail: `people are not told of ${(to - from) / 1000} s without it`,
        };
      }),
      ...(open && at - open.from > 1_000
        ? [
            {
              promise: 'it comes back',
              at,
              detail: `no row was acknowledged for ${(at - open.from) / 1000} s`,
            } satisfies BrokenPromise,
          ]
        : []),
    ];
  }

  /** The same, as one sentence each. */
  violations(): string[] {
    return this.brokenPromises().map(({ promise, detail }) => `${promise}: ${detail}`);
  }
}

function endingOf({ name, status, output, error, cause }: Execution): Ending {
  return { name, status, output, error, cause };
}

async function untilRelocated({ cloud, sns, states }: LocalCloud<ModelledHosts>, clock: VirtualClock): Promise<void> {
  for (let minutes = 0; states.executions.every(({ status }) => status !== 'SUCCEEDED'); minutes++) {
    if (minutes > 30) throw new Error(`the first host does not serve: ${JSON.stringify(sns.messages)}`);
    await clock.pass(60_000);
    if (cloud.failure) throw cloud.failure;
  }
}
