import { type ApiRequest, AwsError, type AwsEvent, type Fault as CallFault, type Faults } from '../cloud/kernel.ts';
import type { LatencyName } from '../cloud/latencies.ts';
import { Random } from '../cloud/random.ts';
import type { HostFault } from '../hosts/modelled.ts';
import type { Simulation } from '../simulation.ts';
import type { Fault, Schedule, Span, Whom } from './schedule.ts';

type Of<Kind extends Fault['kind']> = Extract<Fault, { kind: Kind }>;
type At = Extract<Fault, { at: number }>;

/** Beyond the end of every schedule. */
const NEVER_SECONDS = 30 * 86_400;

/** Makes happen what a schedule says, and counts what had an effect. */
export class ScheduledFaults implements Faults {
  /** How often each kind of fault was injected. */
  readonly injected: Record<string, number> = {};
  readonly #schedule: Schedule;
  readonly #types: readonly string[];
  readonly #random: Random;
  #simulation: Simulation | undefined;
  #beganAt = 0;
  /** The instance that AWS gave notice of last. */
  #doomed = '';

  /** @param types the instance types of the configuration */
  constructor(schedule: Schedule, types: readonly string[]) {
    this.#schedule = schedule;
    this.#types = types;
    this.#random = new Random(schedule.seed).fork('faults');
  }

  /** From now on things go wrong. Resolves when nothing new will, and every announced end has come. */
  async play(simulation: Simulation): Promise<void> {
    this.#simulation = simulation;
    this.#beganAt = simulation.clock.now();
    simulation.local.cloud.onHappening(({ kind, subject }) => {
      if (kind === 'spot-notice') this.#doomed = subject;
    });
    const { faults, calmAfter } = this.#schedule;
    for (const fault of faults) {
      if ('at' in fault) simulation.clock.after(fault.at * 1000, () => this.#strike(fault));
      if (fault.kind === 'no capacity') this.#takeCapacity(fault);
    }
    await simulation.pass(Math.max(calmAfter, ...faults.map(endOf)));
  }

  /** What is wrong with the n-th host launched since the beginning. */
  ofHost(number: number): readonly HostFault[] {
    if (!this.#simulation || this.#seconds() > this.#schedule.calmAfter) return [];
    const faults = this.#of('host')
      .filter((fault) => fault.number === number)
      .flatMap((fault) => fault.faults);
    for (const fault of faults) this.#count(fault);
    return faults;
  }

  onCall({ service, operation, caller }: ApiRequest): CallFault | undefined {
    if (!this.#simulation || caller.roleArn === this.#simulation.local.iam.administrator.roleArn) return undefined;
    for (const fault of this.#of('errors')) {
      const meant = fault.service === service && (fault.operation ?? operation) === operation;
      if (!meant || !this.#hits(fault.span, fault.chance)) continue;
      this.#count(`${service} ${fault.code}${fault.when === 'after' ? ' after the effect' : ''}`);
      return { error: new AwsError(fault.code, 'injected', fault.status), when: fault.when };
    }
    for (const fault of this.#of('slow answers')) {
      if (fault.service !== service || !this.#hits(fault.span, fault.chance)) continue;
      this.#count(`slow ${service}`);
      return { delayMs: fault.seconds * 1000 };
    }
    if (!caller.invocation) return undefined;
    for (const fault of this.#of('kills')) {
      if (!this.#hits(fault.span, fault.chance)) continue;
      const kill = this.#random.chance(0.5) ? 'before' : 'after';
      this.#count(`Lambda killed ${kill} a call`);
      return { kill };
    }
    return undefined;
  }

  onLatency(name: LatencyName, sampledMs: number): number {
    for (const fault of this.#of('latency')) {
      if (fault.of !== name || !this.#hits(fault.span, 1)) continue;
      this.#count(`slow ${name}`);
      return Math.max(sampledMs, fault.seconds * 1000);
    }
    return sampledMs;
  }

  /** Only EC2's events are said to be delivered on a best effort basis. */
  onEvent({ source }: AwsEvent): { readonly delaysMs: readonly number[] } | undefined {
    if (source !== 'aws.ec2') return undefined;
    const fault = this.#of('events').find(({ span }) => this.#hits(span, 1));
    if (!fault) return undefined;
    if (this.#random.chance(fault.lost)) {
      this.#count('event lost');
      return { delaysMs: [] };
    }
    const late = () => {
      if (!this.#random.chance(fault.late)) return 0;
      this.#count('event late');
      return this.#random.below(fault.mostSecondsLate * 1000);
    };
    if (!this.#random.chance(fault.twice)) return { delaysMs: [late()] };
    this.#count('event twice');
    return { delaysMs: [late(), late()] };
  }

  #strike(fault: At): void {
    if (fault.kind === 'stop') this.#stopExecution(fault);
    else if (fault.kind === 'hang') this.#hang();
    else if (fault.kind === 'runbook') this.#startRunbook(fault);
    else {
      const host = this.#find(fault.whom);
      if (host) this.#strikeHost(fault, host);
    }
  }

  #strikeHost(fault: Exclude<At, Of<'stop' | 'hang' | 'runbook'>>, host: string): void {
    const simulation = this.#playing();
    switch (fault.kind) {
      case 'interruption':
      case 'recommendation':
        this.#announce(fault, host);
        break;
      case 'termination':
        this.#count('terminated by a person', host);
        simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [host] });
        break;
      case 'agent death':
        this.#count('agent dies', host);
        simulation.local.ssm.agentDead(host);
        break;
      case 'hardware failure':
        this.#count('hardware fails', host);
        simulation.local.ec2.failHost(host).catch((error: Error) => simulation.local.cloud.fail(error));
    }
  }

  #hang(): void {
    const { ec2, hosts } = this.#playing().local;
    if (ec2.machine(this.#doomed)?.state !== 'running') return;
    this.#count('guest hangs', this.#doomed);
    hosts.hang(this.#doomed);
  }

  #announce(fault: Of<'interruption' | 'recommendation'>, host: string): void {
    const { ec2 } = this.#playing().local;
    if (ec2.machine(host)?.lifecycle !== 'spot') return;
    this.#count(fault.kind, host);
    if (fault.kind === 'recommendation') {
      ec2.interrupt(host, { rebalanceSecondsBefore: NEVER_SECONDS });
      return;
    }
    const { noticeSeconds, recommendedBefore } = fault;
    ec2.interrupt(host, {
      noticeSeconds,
      ...(recommendedBefore !== undefined && { rebalanceSecondsBefore: recommendedBefore }),
    });
  }

  #startRunbook({ workflow, input }: Of<'runbook'>): void {
    this.#count(`${workflow} started`, JSON.stringify(input));
    this.#playing().startWorkflow(workflow, input);
  }

  #stopExecution({ redriveAfter }: Of<'stop'>): void {
    const simulation = this.#playing();
    const running = simulation.local.states.executions.findLast(({ status }) => status === 'RUNNING');
    if (!running) return;
    const executionArn = running.arn;
    this.#count('execution stopped', running.name);
    simulation.asPerson('states', 'StopExecution', { executionArn });
    if (redriveAfter === undefined) return;
    simulation.clock.after(redriveAfter * 1000, () => {
      this.#count('execution redriven', running.name);
      simulation.asPerson('states', 'RedriveExecution', { executionArn });
    });
  }

  #takeCapacity({ span, lifecycles, share }: Of<'no capacity'>): void {
    const { clock, local } = this.#playing();
    const types = this.#types.slice(0, Math.ceil(this.#types.length * share));
    const set = (available: boolean) => {
      for (const type of types) for (const lifecycle of lifecycles) local.ec2.capacity(type, lifecycle, available);
    };
    clock.after(span.from * 1000, () => {
      this.#count('no capacity', `${types.length} types ${lifecycles.join(' and ')}`);
      set(false);
    });
    clock.after(span.to * 1000, () => set(true));
  }

  /** The instance that a fault is for now, if there is one. */
  #find(whom: Whom): string | undefined {
    const simulation = this.#playing();
    const holder = simulation.watch.liveVolume()?.attachment?.instanceId;
    if (whom === 'holder') return simulation.local.ec2.machine(holder ?? '')?.state === 'running' ? holder : undefined;
    return simulation.local.ec2
      .machines()
      .filter(({ identity, state }) => state === 'running' && identity.instanceId !== holder)
      .at(-1)?.identity.instanceId;
  }

  #of<Kind extends Fault['kind']>(kind: Kind): Of<Kind>[] {
    return this.#schedule.faults.filter((fault): fault is Of<Kind> => fault.kind === kind);
  }

  #hits({ from, to }: Span, chance: number): boolean {
    const now = this.#seconds();
    return now >= from && now < to && this.#random.chance(chance);
  }

  #seconds(): number {
    return this.#simulation ? (this.#simulation.clock.now() - this.#beganAt) / 1000 : Number.NEGATIVE_INFINITY;
  }

  #count(fault: string, subject = ''): void {
    this.injected[fault] = (this.injected[fault] ?? 0) + 1;
    this.#playing().local.cloud.record('fault', fault, { subject });
  }

  #playing(): Simulation {
    if (!this.#simulation) throw new Error('the faults have not begun yet');
    return this.#simulation;
  }
}

/** Seconds after which AWS has done what it announced. */
function endOf(fault: Fault): number {
  return fault.kind === 'interruption' ? fault.at + (fault.recommendedBefore ?? 0) + fault.noticeSeconds : 0;
}
