import { AwsError, type Fault, type Faults } from '../cloud/kernel.ts';
import type { LatencyName } from '../cloud/latencies.ts';
import { Random } from '../cloud/random.ts';
import type { HostFault } from '../hosts/modelled.ts';

/** Errors that AWS gives for no fault of the caller's. */
const PASSING_ERRORS: Readonly<Record<string, readonly AwsError[]>> = {
  ec2: [
    new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503),
    new AwsError('InternalError', 'An internal error has occurred', 500),
    new AwsError('Unavailable', 'The service is unavailable. Please try again shortly.', 503),
  ],
  ssm: [
    new AwsError('ThrottlingException', 'Rate exceeded'),
    new AwsError('InternalServerError', 'An error occurred on the server side.', 500),
  ],
  states: [
    new AwsError('ThrottlingException', 'Rate exceeded'),
    new AwsError('InternalServerError', 'Internal error', 500),
  ],
  sns: [new AwsError('Throttling', 'Rate exceeded')],
};

const HOST_FAULTS: readonly HostFault[] = [
  'slowBoot',
  'dockerInstallFails',
  'imagePullFails',
  'mountFails',
  'hangsDuringTakeover',
  'postgresDoesNotStart',
  'dockerStopHangs',
  'umountHangs',
];

/** What may be stretched, and to how much at most, in seconds. */
const STRETCHED: readonly (readonly [name: LatencyName, seconds: number])[] = [
  ['ec2.detach', 60],
  ['ec2.attach', 60],
  ['ec2.assignPrivateIp', 20],
  ['ec2.pendingToRunning', 60],
  ['ssm.agentOnline', 400],
  ['ssm.deliver', 20],
  ['ssm.report', 20],
  ['ec2.describeLag', 5],
  ['lambda.coldStart', 5],
];

/** Everything that goes wrong in one schedule, drawn from its seed. It ends: after {@link untilSeconds} AWS is well again. */
export interface Schedule {
  readonly seed: number;
  readonly noticeSeconds: number;
  readonly rebalanceSecondsBefore: number | undefined;
  /** Lifecycles in which nothing can be had for a while. */
  readonly noCapacity: readonly ('spot' | 'on-demand')[];
  readonly untilSeconds: number;
  /** Seconds after the first notice at which AWS takes whatever host holds the database then. */
  readonly secondNoticeAfter: number | undefined;
  /** Seconds after which a person terminates the host that holds the database. */
  readonly personTerminatesAfter: number | undefined;
  readonly agentDies: boolean;
  readonly hostFaults: (number: number) => readonly HostFault[];
  readonly faults: (now: () => number) => Faults;
  /** How often each kind of fault came, filled in while it runs. */
  readonly injected: Record<string, number>;
}

export function drawSchedule(seed: number): Schedule {
  const random = new Random(seed).fork('schedule');
  const injected: Record<string, number> = {};
  const count = (what: string) => {
    injected[what] = (injected[what] ?? 0) + 1;
  };
  const untilSeconds = 60 + random.below(540);
  const errorRate = random.chance(0.5) ? random.next() * 0.1 : 0;
  const killRate = random.chance(0.5) ? random.next() * 0.03 : 0;
  const stretched = STRETCHED.filter(() => random.chance(0.12));
  const lossRate = random.chance(0.3) ? random.next() : 0;
  const duplicateRate = random.chance(0.3) ? random.next() : 0;
  const lateSeconds = random.chance(0.3) ? random.below(30) : 0;
  const broken = new Map<number, readonly HostFault[]>();
  for (let number = 0; number < 4; number++) if (random.chance(0.15)) broken.set(number, [random.pick(HOST_FAULTS)]);
  const noCapacity = random.chance(0.2)
    ? (['spot', 'on-demand'] as const)
    : random.chance(0.2)
      ? (['spot'] as const)
      : [];
  const events = random.fork('events');
  const calls = random.fork('calls');

  return {
    seed,
    noticeSeconds: random.chance(0.2) ? 105 + random.below(16) : 120,
    rebalanceSecondsBefore: random.chance(0.5) ? random.below(180) : undefined,
    noCapacity,
    untilSeconds,
    secondNoticeAfter: random.chance(0.25) ? random.below(240) : undefined,
    personTerminatesAfter: random.chance(0.1) ? random.below(180) : undefined,
    agentDies: random.chance(0.1),
    injected,
    hostFaults: (number) => {
      const faults = broken.get(number) ?? [];
      for (const fault of faults) count(fault);
      return faults;
    },
    faults: (now) => ({
      onCall: ({ service, caller }): Fault | undefined => {
        if (now() > untilSeconds) return undefined;
        if (caller.invocation && calls.chance(killRate)) {
          count('lambdaKilled');
          return { kill: calls.chance(0.5) ? 'before' : 'after' };
        }
        const errors = PASSING_ERRORS[service];
        if (!errors || caller.session === 'person' || !calls.chance(errorRate)) return undefined;
        count('apiError');
        return { error: calls.pick(errors) };
      },
      onLatency: (name, ms) => {
        const stretch = now() <= untilSeconds ? stretched.find(([each]) => each === name) : undefined;
        if (!stretch) return ms;
        count('slow');
        return ms + calls.next() * stretch[1] * 1000;
      },
      onEvent: ({ source }) => {
        if (now() > untilSeconds || source !== 'aws.ec2') return undefined;
        if (events.chance(lossRate)) {
          count('eventLost');
          return { delaysMs: [] };
        }
        const first = events.below(lateSeconds * 1000 + 1);
        if (!events.chance(duplicateRate)) return { delaysMs: [first] };
        count('eventTwice');
        return { delaysMs: [first, first + events.below(30_000)] };
      },
    }),
  };
}
