import { Simulation } from '../simulation.ts';
import { drawSchedule, type Schedule } from './faults.ts';

export interface Violation {
  readonly seed: number;
  readonly promise: string;
  /** Seconds after the first notice. */
  readonly at: number;
  readonly detail: string;
}

export interface ScheduleResult {
  readonly violations: readonly Violation[];
  readonly injected: Readonly<Record<string, number>>;
  /** How it went, in a word or two. */
  readonly outcome: string;
}

export interface RunOptions {
  readonly assembly: string;
  readonly database: string;
  readonly seed: number;
  /** Is told everything that happens. */
  readonly trace?: (line: string) => void;
}

/** After the last fault, everything has to come to rest within this time: the longest waits of all workflows together. */
const REST_SECONDS = 3 * 3_600;

/** Plays one fault schedule through, and says what did not hold. */
export async function runSchedule({ assembly, database, seed, trace }: RunOptions): Promise<ScheduleResult> {
  const schedule = drawSchedule(seed);
  let simulation: Simulation | undefined;
  let began = 0;
  try {
    simulation = await Simulation.start({ assembly, database, seed, hostFaults: schedule.hostFaults });
    began = simulation.clock.now();
    if (trace) tell(simulation, began, trace);
    await play(simulation, schedule, began);
    return judge(simulation, schedule, began);
  } catch (error) {
    const at = simulation ? (simulation.clock.now() - began) / 1000 : 0;
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return {
      violations: [{ seed, promise: 'the simulation itself', at, detail }],
      injected: schedule.injected,
      outcome: 'broken',
    };
  }
}

async function play(simulation: Simulation, schedule: Schedule, began: number): Promise<void> {
  const { local, clock } = simulation;
  const seconds = () => (clock.now() - began) / 1000;
  local.cloud.faults = schedule.faults(seconds);
  const source = simulation.holder;
  if (schedule.agentDies) local.ssm.agentDead(source);
  setCapacity(simulation, schedule.noCapacity, false);
  const { noticeSeconds, rebalanceSecondsBefore } = schedule;
  local.ec2.interrupt(source, {
    noticeSeconds,
    ...(rebalanceSecondsBefore !== undefined && { rebalanceSecondsBefore }),
  });
  at(simulation, schedule.secondNoticeAfter, (holder) => {
    if (local.ec2.machine(holder)?.lifecycle === 'spot') local.ec2.interrupt(holder);
  });
  at(simulation, schedule.personTerminatesAfter, (InstanceId) => {
    const input = { InstanceIds: [InstanceId] };
    local.cloud
      .call({ service: 'ec2', operation: 'TerminateInstances', input, caller: local.iam.administrator })
      .catch(() => {});
  });
  await simulation.pass(schedule.untilSeconds);
  setCapacity(simulation, ['spot', 'on-demand'], true);
  // A recommendation is followed by the warning, and that by the end of the host.
  await simulation.pass((rebalanceSecondsBefore ?? 0) + noticeSeconds + 300);
  await simulation.settle(REST_SECONDS);
  // Strays are given a quarter of an hour.
  await simulation.pass(20 * 60);
  await simulation.settle(REST_SECONDS);
}

/** Does something to the host that holds the database then, if one does. */
function at(simulation: Simulation, seconds: number | undefined, act: (holder: string) => void): void {
  if (seconds === undefined) return;
  simulation.clock.after(seconds * 1000, () => {
    const holder = simulation.watch.liveVolume()?.attachment?.instanceId;
    if (holder && simulation.local.ec2.machine(holder)?.state === 'running') act(holder);
  });
}

function setCapacity({ local }: Simulation, lifecycles: Schedule['noCapacity'], available: boolean): void {
  const types = local.cloud.happenings
    .filter(({ kind, subject }) => kind === 'call' && subject === 'ec2:CreateFleet')
    .flatMap(({ detail }) => JSON.stringify(detail['input']).match(/(?<="InstanceType":")[^"]+/g) ?? []);
  for (const type of new Set(types)) for (const lifecycle of lifecycles) local.ec2.capacity(type, lifecycle, available);
}

function judge(simulation: Simulation, { seed, injected }: Schedule, began: number): ScheduleResult {
  const end = (simulation.clock.now() - began) / 1000;
  const violations = simulation.violations().map((text): Violation => {
    const [promise = '', ...rest] = text.split(': ');
    return { seed, promise, at: end, detail: rest.join(': ') };
  });
  if (!simulation.serves) violations.push({ seed, promise: 'it comes back', at: end, detail: 'no client can write' });
  const endings = simulation.endings.map(({ status }) => status.toLowerCase());
  const outcome = endings.length === 0 ? 'nothing started' : [...new Set(endings)].sort().join(' and ');
  return { violations, injected, outcome };
}

const TOLD = new Set([
  'spot-notice',
  'spot-rebalance',
  'instance-state',
  'volume-attachment',
  'address',
  'execution',
  'state-failed',
  'takeover',
  'postgres',
  'published',
  'broken-promise',
  'call-failed',
  'denied',
  'agent-online',
]);

function tell(simulation: Simulation, began: number, trace: (line: string) => void): void {
  simulation.local.cloud.onHappening(({ kind, subject, at, detail }) => {
    const time = `${((at - began) / 1000).toFixed(2).padStart(9)} s`;
    if (kind === 'log') {
      const line = JSON.parse(String(detail['line']));
      if (line.reason) trace(`${time}  ${line.message}: ${line.action ?? line.next}: ${line.reason}`);
      return;
    }
    if (kind === 'state-entered') trace(`${time}  ${subject}: ${detail['state']}`);
    if (kind === 'command')
      trace(
        `${time}  command ${detail['document']} on ${detail['instanceId']}: ${detail['phase']} ${detail['exitCode'] ?? ''} ${detail['stderr'] ?? ''}`,
      );
    if (!TOLD.has(kind)) return;
    const { executionArn: _, stateMachine: __, ...rest } = detail;
    trace(`${time}  ${kind} ${subject} ${JSON.stringify(rest).slice(0, 400)}`);
  });
}
