import type { ServiceName } from '../cloud/kernel.ts';
import type { LatencyName } from '../cloud/latencies.ts';
import { Random } from '../cloud/random.ts';
import type { HostFault } from '../hosts/modelled.ts';

/** The workflow that a schedule is about: what it begins with. */
export type Workflow = 'relocate' | 'scale-up' | 'patch' | 'backup';
export const WORKFLOWS: readonly Workflow[] = ['relocate', 'scale-up', 'patch', 'backup'];

/** Which host a fault is for, as it stands when its time has come. */
export type Whom =
  /** The one that has the data volume. */
  | 'holder'
  /** The youngest one that has not. */
  | 'replacement';

/** In seconds since the schedule's beginning. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One thing that goes wrong. Plain data: a schedule can be printed, and be played again. */
export type Fault =
  | {
      readonly kind: 'interruption';
      readonly at: number;
      readonly whom: Whom;
      /** From the notice to the shutdown. */
      readonly noticeSeconds: number;
      /** How long before the notice AWS recommends to leave; absent where it does not. */
      readonly recommendedBefore?: number;
    }
  /** A person starts a runbook. */
  | {
      readonly kind: 'runbook';
      readonly at: number;
      readonly workflow: Exclude<Workflow, 'relocate'>;
      readonly input: Readonly<Record<string, string | number | boolean>>;
    }
  /** The hardware under a host fails: its guest is dead, and EC2 says so minutes later. */
  | { readonly kind: 'hardware failure'; readonly at: number; readonly whom: Whom }
  /** AWS recommends to leave the host, and never takes it. */
  | { readonly kind: 'recommendation'; readonly at: number; readonly whom: Whom }
  | { readonly kind: 'termination'; readonly at: number; readonly whom: Whom }
  | { readonly kind: 'agent death'; readonly at: number; readonly whom: Whom }
  /** The guest of a host that AWS is about to take freezes. */
  | { readonly kind: 'hang'; readonly at: number }
  /** A person stops the newest execution that runs, a runbook or a relocation, and perhaps redrives it. */
  | { readonly kind: 'stop'; readonly at: number; readonly redriveAfter?: number }
  /** What is wrong with the n-th host launched since the beginning, from 0. */
  | { readonly kind: 'host'; readonly number: number; readonly faults: readonly HostFault[] }
  | {
      readonly kind: 'no capacity';
      readonly span: Span;
      readonly lifecycles: readonly ('spot' | 'on-demand')[];
      /** The share of the configured types that cannot be had, in the order of the configuration. */
      readonly share: number;
    }
  | {
      readonly kind: 'errors';
      readonly span: Span;
      readonly service: ServiceName;
      readonly operation?: string;
      readonly chance: number;
      readonly code: string;
      readonly status: number;
      /** `after`: the call had its effect, and only its answer is lost. */
      readonly when: 'before' | 'after';
    }
  | {
      readonly kind: 'slow answers';
      readonly span: Span;
      readonly service: ServiceName;
      readonly chance: number;
      readonly seconds: number;
    }
  /** Something of AWS's or of a host's own takes this long. */
  | { readonly kind: 'latency'; readonly span: Span; readonly of: LatencyName; readonly seconds: number }
  | {
      readonly kind: 'events';
      readonly span: Span;
      /** Chances of each event. */
      readonly lost: number;
      readonly twice: number;
      readonly late: number;
      readonly mostSecondsLate: number;
    }
  /** A Lambda dies at a call, before it has an effect or after. */
  | { readonly kind: 'kills'; readonly span: Span; readonly chance: number };

export interface Schedule {
  readonly seed: number;
  readonly faults: readonly Fault[];
  /** Seconds after which nothing new goes wrong. */
  readonly calmAfter: number;
}

/** What AWS answers when it is busy or broken, by service, with the status that its SDKs see. */
const ERRORS: Readonly<Partial<Record<ServiceName, readonly (readonly [code: string, status: number])[]>>> = {
  ec2: [
    ['RequestLimitExceeded', 503],
    ['InternalError', 500],
    ['Unavailable', 503],
  ],
  ssm: [
    ['ThrottlingException', 400],
    ['InternalServerError', 500],
  ],
  states: [
    ['ThrottlingException', 400],
    ['InternalFailure', 500],
  ],
  lambda: [
    ['TooManyRequestsException', 429],
    ['ServiceException', 500],
  ],
  s3: [
    ['SlowDown', 503],
    ['InternalError', 500],
  ],
  sns: [
    ['Throttled', 429],
    ['InternalError', 500],
  ],
};

/** Single operations that fail for a while although the rest of their service answers. */
const OPERATIONS: readonly (readonly [ServiceName, string])[] = [
  ['ec2', 'AttachVolume'],
  ['ec2', 'DetachVolume'],
  ['ec2', 'AssignPrivateIpAddresses'],
  ['ec2', 'CreateFleet'],
  ['ec2', 'DescribeInstances'],
  ['ec2', 'DescribeVolumes'],
  ['ec2', 'TerminateInstances'],
  ['ec2', 'CreateTags'],
  ['ec2', 'CreateSnapshot'],
  ['ec2', 'ModifyVolume'],
  ['ec2', 'DescribeVolumesModifications'],
  ['ec2', 'DescribeInstanceStatus'],
  ['ssm', 'SendCommand'],
  ['ssm', 'ListCommandInvocations'],
  ['ssm', 'GetCommandInvocation'],
  ['ssm', 'GetParameter'],
  ['ssm', 'PutParameter'],
  ['states', 'SendTaskSuccess'],
  ['states', 'StartExecution'],
  ['states', 'StartSyncExecution'],
  ['states', 'ListExecutions'],
  ['states', 'DescribeExecution'],
  ['lambda', 'Invoke'],
  ['sns', 'Publish'],
  ['s3', 'PutObject'],
];

/** Latencies that are known to have long tails, and how long these are. */
const LATENCIES: readonly (readonly [LatencyName, number])[] = [
  ['ec2.detach', 80],
  ['ec2.attach', 60],
  ['ec2.assignPrivateIp', 30],
  ['ec2.describeLag', 8],
  ['ec2.volumeModifying', 60],
  ['ec2.snapshot', 600],
  ['ec2.pendingToRunning', 60],
  ['ec2.runningToUserData', 120],
  ['ec2.terminate', 240],
  ['ec2.terminateSkipOsShutdown', 120],
  ['ssm.agentOnline', 360],
  ['ssm.deliver', 40],
  ['ssm.report', 20],
  ['ssm.invocationLag', 8],
  ['host.pullImage', 180],
  ['lambda.coldStart', 8],
];

const HOST_FAULTS: readonly HostFault[] = [
  'slowBoot',
  'dockerInstallFails',
  'imagePullFails',
  'mountFails',
  'hangsDuringTakeover',
  'postgresDoesNotStart',
  'takeoverAgainFails',
  'cannotVerify',
  'proofHangs',
  'dockerStopHangs',
  'umountHangs',
];

/** AWS announces two minutes; 108 s were measured. @see functions/core/plan.ts */
const NOTICES = [120, 120, 108];

/** Draws what goes wrong. The same seed draws the same, whatever else changes in the simulation. */
export function drawSchedule(seed: number, workflow: Workflow = 'relocate'): Schedule {
  const random = new Random(seed).fork('schedule');
  const calmAfter = 120 + random.below(480);
  const faults: Fault[] = [workflow === 'relocate' ? drawOpening(random) : drawRunbook(random, 0, workflow)];
  const draws: readonly (() => Fault | undefined)[] = [
    () => drawEvents(random, calmAfter),
    () => drawCapacity(random, calmAfter),
    () => drawErrors(random, calmAfter),
    () => drawErrors(random, calmAfter),
    () => drawOperationErrors(random, calmAfter),
    () => drawSlowAnswers(random, calmAfter),
    () => drawLatency(random, calmAfter),
    () => drawLatency(random, calmAfter),
    () => ({ kind: 'kills', span: drawSpan(random, calmAfter), chance: random.pick([0.01, 0.05, 0.2]) }),
    () => drawHost(random, 0),
    () => drawHost(random, 1),
    () => drawHost(random, 2),
    () => drawInterruption(random, random.below(calmAfter), random.pick(['holder', 'replacement'])),
    () => ({ kind: 'termination', at: random.below(calmAfter), whom: random.pick(['holder', 'replacement']) }),
    () => ({ kind: 'agent death', at: random.below(calmAfter), whom: random.pick(['holder', 'replacement']) }),
    () => ({ kind: 'hang', at: random.below(110) }),
    () => ({ kind: 'hardware failure', at: random.below(calmAfter), whom: random.pick(['holder', 'replacement']) }),
    () => drawRunbook(random, random.below(calmAfter), random.pick(['scale-up', 'patch', 'backup'])),
    () => drawStop(random, calmAfter),
  ];
  // Most schedules have a few faults, so that each can show itself; some have nearly all at once.
  const share = random.pick([0.08, 0.15, 0.25, 0.4, 0.6]);
  for (const draw of draws) {
    if (!random.chance(share)) continue;
    const fault = draw();
    if (fault) faults.push(fault);
  }
  return { seed, faults, calmAfter };
}

function drawOpening(random: Random): Fault {
  const kind = random.next();
  if (kind < 0.8) return drawInterruption(random, 0, 'holder');
  return kind < 0.9
    ? { kind: 'recommendation', at: 0, whom: 'holder' }
    : { kind: 'termination', at: 0, whom: 'holder' };
}

function drawRunbook(random: Random, at: number, workflow: Exclude<Workflow, 'relocate'>): Fault {
  if (workflow === 'backup') return { kind: 'runbook', at, workflow, input: {} };
  const input =
    workflow === 'patch'
      ? { image: 'timescale/timescaledb:2.20.0-pg16', updateExtension: random.chance(0.5) }
      : random.pick<Record<string, string | number>>([
          { instanceType: 't4g.medium' },
          { volumeGiB: 30 },
          { instanceType: 't4g.medium', volumeGiB: 30 },
        ]);
  return { kind: 'runbook', at, workflow, input };
}

function drawInterruption(random: Random, at: number, whom: Whom): Fault {
  const recommendedBefore = random.pick([undefined, undefined, 0, 2, 30, 300]);
  return {
    kind: 'interruption',
    at,
    whom,
    noticeSeconds: random.pick(NOTICES),
    ...(recommendedBefore !== undefined && { recommendedBefore }),
  };
}

function drawSpan(random: Random, end: number): Span {
  const from = random.chance(0.4) ? 0 : random.below(end);
  return { from, to: Math.min(end, from + 5 + random.below(end)) };
}

function drawEvents(random: Random, end: number): Fault {
  return {
    kind: 'events',
    span: { from: 0, to: end },
    lost: random.pick([0, 0.3, 1]),
    twice: random.pick([0, 0.5]),
    late: random.pick([0, 0.5, 1]),
    mostSecondsLate: random.pick([5, 15, 90]),
  };
}

function drawCapacity(random: Random, end: number): Fault {
  return {
    kind: 'no capacity',
    span: drawSpan(random, end),
    lifecycles: random.pick([['spot'], ['spot', 'on-demand'], ['spot', 'on-demand']]),
    share: random.pick([0.5, 1, 1]),
  };
}

function drawErrors(random: Random, end: number): Fault {
  const service = random.pick(Object.keys(ERRORS) as ServiceName[]);
  return errorsOf(random, end, service, random.pick([0.05, 0.2, 0.5]));
}

function drawOperationErrors(random: Random, end: number): Fault {
  const [service, operation] = random.pick(OPERATIONS);
  return { ...errorsOf(random, end, service, random.pick([0.5, 0.9, 1])), operation };
}

function errorsOf(random: Random, end: number, service: ServiceName, chance: number): Fault & { kind: 'errors' } {
  const [code, status] = random.pick(ERRORS[service] ?? []);
  // A throttled call has no effect; one that failed inside AWS may have had it.
  const when = status === 500 && random.chance(0.5) ? 'after' : 'before';
  return { kind: 'errors', span: drawSpan(random, end), service, chance, code, status, when };
}

function drawSlowAnswers(random: Random, end: number): Fault {
  return {
    kind: 'slow answers',
    span: drawSpan(random, end),
    service: random.pick(Object.keys(ERRORS) as ServiceName[]),
    chance: random.pick([0.05, 0.3]),
    seconds: random.pick([2, 10, 40]),
  };
}

function drawLatency(random: Random, end: number): Fault {
  const [of, most] = random.pick(LATENCIES);
  return { kind: 'latency', span: drawSpan(random, end), of, seconds: Math.ceil(most * random.next()) };
}

function drawHost(random: Random, number: number): Fault {
  return { kind: 'host', number, faults: [random.pick(HOST_FAULTS)] };
}

function drawStop(random: Random, end: number): Fault {
  const redriveAfter = random.pick([undefined, 1, 30, 300]);
  return { kind: 'stop', at: random.below(end), ...(redriveAfter !== undefined && { redriveAfter }) };
}
