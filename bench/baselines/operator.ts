import type { ServiceName, Shape } from '../../drill/cloud/kernel.ts';
import type { Simulation } from '../../drill/simulation.ts';

/**
 * Somebody else who keeps the database of a simulation, with a script instead of Keeper and with all permissions. Keeper
 * hears of nothing any more: no event and no schedule reaches it.
 */
export class Operator {
  readonly #simulation: Simulation;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
    simulation.local.cloud.faults.onEvent = () => ({ delaysMs: [] });
  }

  /** Docker and the image are on the root volume: an instance that is started again neither installs nor pulls anything. */
  keepsWhatIsInstalled(instanceId: string): void {
    const { faults } = this.#simulation.local.cloud;
    const { onLatency } = faults;
    faults.onLatency = (name, sampledMs, subject) =>
      subject === instanceId && name.startsWith('host.') ? 0 : (onLatency?.(name, sampledMs, subject) ?? sampledMs);
  }

  get database(): string {
    return this.#simulation.database;
  }

  /** @throws AwsError what AWS answers */
  call(service: ServiceName, operation: string, input: Shape): Promise<Shape> {
    const { cloud, iam } = this.#simulation.local;
    return cloud.call({ service, operation, input, caller: iam.administrator });
  }

  sleep(seconds: number): Promise<void> {
    return this.#simulation.clock.sleep(seconds * 1000);
  }

  /** Looks at once, and then every so many seconds, as waiters do, until it holds. */
  async waitUntil(holds: () => Promise<boolean>, everySeconds: number): Promise<void> {
    while (!(await holds())) await this.sleep(everySeconds);
  }

  /** As EC2 shows it, which may be nothing for a moment. */
  async instance(id: string): Promise<Shape> {
    const Filters = [{ Name: 'instance-id', Values: [id] }];
    const { Reservations } = await this.call('ec2', 'DescribeInstances', { Filters });
    return Reservations[0]?.Instances[0];
  }

  async volume(id: string): Promise<Shape> {
    const { Volumes } = await this.call('ec2', 'DescribeVolumes', { VolumeIds: [id] });
    return Volumes[0];
  }

  async parameter(name: string): Promise<string> {
    const { Parameter } = await this.call('ssm', 'GetParameter', { Name: `/keeper/${this.database}/${name}` });
    return Parameter.Value;
  }
}
