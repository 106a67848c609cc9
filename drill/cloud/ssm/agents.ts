import type { Host } from '../../hosts/host.ts';
import type { Authorization, Caller, Cloud } from '../kernel.ts';
import type { Tags } from './tags.ts';

/** What Systems Manager knows of an instance. */
export interface ManagedInstance {
  /** Undefined once it has ended; its tags are known for a while longer. */
  readonly host: Host | undefined;
  readonly tags: Tags;
  /** EC2's word for it, e.g. `running`. */
  readonly state: string;
  /** The role of its instance profile. */
  readonly roleArn: string;
  /** Milliseconds since the epoch. */
  readonly runningSince: number;
}

export type InstanceLookup = (instanceId: string) => ManagedInstance | undefined;

interface Agent {
  readonly runningSince: number;
  registeredAt: number | undefined;
  diedAt: number | undefined;
  busyWorkers: number;
  readonly waiting: (() => void)[];
}

/** @see docs.aws.amazon.com/systems-manager/latest/APIReference/API_InstanceInformation.html */
export type PingStatus = 'Online' | 'ConnectionLost';

// Mds.CommandWorkersLimit: aws/amazon-ssm-agent amazon-ssm-agent.json.template
const COMMAND_WORKERS = 5;
// The agent's HealthFrequencyMinutes, after which a silent one counts as lost: same file
const HEARTBEAT_MS = 5 * 60_000;

/** The agents on the hosts: when they register, whether they answer, and how many commands they run side by side. */
export class Agents {
  readonly #cloud: Cloud;
  readonly #instances: InstanceLookup;
  readonly #agents = new Map<string, Agent>();

  constructor(cloud: Cloud, instances: InstanceLookup) {
    this.#cloud = cloud;
    this.#instances = instances;
    cloud.onHappening(({ kind, subject, detail }) => {
      if (kind === 'instance-state' && detail['state'] === 'running') this.#watch(subject);
      if (kind === 'instance-status' && detail['status'] === 'impaired') this.die(subject);
    });
  }

  /** How the agent of this instance last showed itself; undefined when it never registered, or its instance is gone. */
  pingStatus(instanceId: string): PingStatus | undefined {
    const agent = this.#watch(instanceId);
    if (agent?.registeredAt === undefined) return undefined;
    const lastPing = this.lastPing(instanceId) ?? agent.registeredAt;
    return this.#cloud.clock.now() - lastPing > HEARTBEAT_MS ? 'ConnectionLost' : 'Online';
  }

  /** Whether a message to the agent is answered now. */
  answers(instanceId: string): boolean {
    const agent = this.#watch(instanceId);
    return agent?.registeredAt !== undefined && agent.diedAt === undefined;
  }

  /** The last heartbeat, in milliseconds since the epoch; undefined when there was none. */
  lastPing(instanceId: string): number | undefined {
    const agent = this.#agents.get(instanceId);
    if (agent?.registeredAt === undefined) return undefined;
    const silentFrom = agent.diedAt ?? this.#cloud.clock.now();
    const beats = Math.floor((silentFrom - agent.registeredAt) / HEARTBEAT_MS);
    return agent.registeredAt + beats * HEARTBEAT_MS;
  }

  /** The registered agents' instances. */
  registered(): string[] {
    return [...this.#agents.keys()].filter((instanceId) => this.pingStatus(instanceId) !== undefined);
  }

  /** From now on the agent of this instance neither takes commands nor reports; its host goes on. */
  die(instanceId: string): void {
    const agent = this.#watch(instanceId);
    if (agent) agent.diedAt ??= this.#cloud.clock.now();
  }

  /** Waits for one of the agent's workers. The returned function gives it back. */
  async worker(instanceId: string): Promise<() => void> {
    const agent = this.#watch(instanceId);
    if (!agent) return () => {};
    if (agent.busyWorkers < COMMAND_WORKERS) agent.busyWorkers++;
    else await new Promise<void>((resolve) => agent.waiting.push(resolve));
    return () => {
      const next = agent.waiting.shift();
      if (next) next();
      else agent.busyWorkers--;
    };
  }

  // Also called for an instance that is looked at before anybody has said that it runs.
  #watch(instanceId: string): Agent | undefined {
    const instance = this.#instances(instanceId);
    if (instance?.state !== 'running') return undefined;
    const known = this.#agents.get(instanceId);
    if (known?.runningSince === instance.runningSince) return known;
    const agent: Agent = {
      runningSince: instance.runningSince,
      registeredAt: undefined,
      diedAt: undefined,
      busyWorkers: 0,
      waiting: [],
    };
    this.#agents.set(instanceId, agent);
    const comesOnlineAt = instance.runningSince + this.#cloud.latency('ssm.agentOnline', instanceId);
    this.#cloud.clock.after(comesOnlineAt - this.#cloud.clock.now(), () => {
      this.#register(instanceId, agent).catch((error: Error) => this.#cloud.fail(error));
    });
    return agent;
  }

  async #register(instanceId: string, agent: Agent): Promise<void> {
    const instance = this.#instances(instanceId);
    if (instance?.state !== 'running' || instance.runningSince !== agent.runningSince || agent.diedAt !== undefined)
      return;
    const caller = { roleArn: instance.roleArn, session: instanceId };
    if (await this.#isUnmanaged(caller, instanceId)) return;
    const refusals = await Promise.all(
      this.#agentCalls(instanceId).map((authorization) => this.#cloud.deny(caller, authorization)),
    );
    if (refusals.some((reason) => reason !== undefined)) return;
    agent.registeredAt = this.#cloud.clock.now();
    this.#cloud.record('agent-online', instanceId);
  }

  /** The image has the agent, and the role may do nothing of what it needs: nobody means to manage this instance. */
  async #isUnmanaged(caller: Caller, instanceId: string): Promise<boolean> {
    const { authorizer } = this.#cloud;
    const refusals = await Promise.all(this.#agentCalls(instanceId).map((each) => authorizer?.deny(caller, each)));
    return refusals.every((reason) => reason !== undefined);
  }

  /**
   * What an agent calls before it is Online. Agents before 3.3.40 also use ec2messages.
   * @see docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-setting-up-messageAPIs.html
   */
  #agentCalls(instanceId: string): Authorization[] {
    const instanceArn = this.#cloud.arn('ec2', `instance/${instanceId}`);
    const source = { 'ec2:SourceInstanceARN': instanceArn, 'ssm:SourceInstanceARN': instanceArn };
    return [
      { action: 'ssm:UpdateInstanceInformation', resource: instanceArn, context: source },
      { action: 'ssmmessages:CreateControlChannel', resource: '*', context: source },
      { action: 'ssmmessages:OpenControlChannel', resource: '*' },
      { action: 'ssmmessages:CreateDataChannel', resource: '*' },
      { action: 'ssmmessages:OpenDataChannel', resource: '*' },
    ];
  }
}
