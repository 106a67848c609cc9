import { onlyKnown, type Shape } from '../kernel.ts';
import { invalidParameter } from './errors.ts';
import { INSTANCE_STATUS_FILTERS, matches, paginate } from './filters.ts';
import type { Check, Instance } from './records.ts';
import type { Ec2State } from './state.ts';

const REACHABILITY = { initializing: 'initializing', ok: 'passed', impaired: 'failed' } as const;

/** docs: DescribeInstanceStatus, "Maximum 100 explicitly specified instance IDs" */
const MAX_IDS = 100;

/**
 * What EC2 finds when it looks at its instances from outside, every minute: the machine under one (system status), and
 * whether its guest answers (instance status).
 */
export class StatusChecks {
  #state: Ec2State;

  constructor(state: Ec2State) {
    this.#state = state;
  }

  /** An instance has begun to run: nothing is known of it before the first checks are through. */
  began(instance: Instance): void {
    instance.checks = { system: { status: 'initializing' }, guest: { status: 'initializing' } };
    this.#later('ec2.firstStatusCheck', instance);
  }

  /** Something is wrong with a running instance, which the checks have yet to find. */
  broke(instance: Instance): void {
    this.#later('ec2.statusCheck', instance);
  }

  #later(name: 'ec2.firstStatusCheck' | 'ec2.statusCheck', instance: Instance): void {
    const { cloud } = this.#state;
    const { checks } = instance;
    cloud.clock.after(cloud.latency(name, instance.id), () => {
      // Another run of the instance has checks of its own.
      if (instance.state === 'running' && instance.checks === checks) this.#look(instance);
    });
  }

  #look(instance: Instance): void {
    const { system, guest } = instance.checks;
    this.#found(system, instance.health !== 'dead');
    this.#found(guest, instance.health === 'sound');
    this.#state.cloud.record('status-checks', instance.id, { system: system.status, instance: guest.status });
  }

  #found(check: Check, passed: boolean): void {
    if (!passed && check.status !== 'impaired') check.impairedSince = this.#state.date();
    check.status = passed ? 'ok' : 'impaired';
  }

  /** DescribeInstanceStatus: running instances only, unless all are asked for. */
  describe(input: Shape): Shape {
    onlyKnown('DescribeInstanceStatus', input, [
      'InstanceIds',
      'Filters',
      'IncludeAllInstances',
      'MaxResults',
      'NextToken',
    ]);
    const ids: string[] | undefined = input.InstanceIds;
    if (ids?.length && input.MaxResults !== undefined)
      throw invalidParameter('The parameter instancesSet cannot be used with the parameter maxResults');
    if (ids && ids.length > MAX_IDS) throw invalidParameter(`At most ${MAX_IDS} instance IDs can be specified`);
    const known = ids?.length
      ? [...new Set(ids)].map((id) => this.#state.instance(id))
      : [...this.#state.instances.values()].filter((instance) => !this.#state.isForgotten(instance));
    const page = paginate(known, input, (instance) => instance.id, 5);
    return {
      InstanceStatuses: page.items
        .map((instance) => this.#render(instance))
        .filter((shape) => shape && (input.IncludeAllInstances || shape.InstanceState.Name === 'running'))
        .filter((shape) => matches(shape, input.Filters, INSTANCE_STATUS_FILTERS)),
      NextToken: page.NextToken,
    };
  }

  #render(instance: Instance): Shape | undefined {
    const seen = instance.view.read(this.#state.now());
    if (!seen) return undefined;
    const runs = seen.State.Name === 'running' && instance.state === 'running';
    const summary = ({ status, impairedSince }: Check) => ({
      Status: status,
      Details: [
        {
          Name: 'reachability',
          Status: REACHABILITY[status],
          ...(status === 'impaired' && { ImpairedSince: impairedSince }),
        },
      ],
    });
    return {
      InstanceId: seen.InstanceId,
      AvailabilityZone: seen.Placement.AvailabilityZone,
      InstanceState: seen.State,
      SystemStatus: runs ? summary(instance.checks.system) : { Status: 'not-applicable' },
      InstanceStatus: runs ? summary(instance.checks.guest) : { Status: 'not-applicable' },
      Events: [],
    };
  }
}
