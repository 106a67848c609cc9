import { synthesize } from '../drill/assembly.ts';
import type { Cloud, Shape } from '../drill/cloud/kernel.ts';
import { type LatencyName, sampleLatency } from '../drill/cloud/latencies.ts';
import type { Random } from '../drill/cloud/random.ts';
import { Simulation } from '../drill/simulation.ts';
import { Operator } from './baselines/operator.ts';
import { relaunchAfterLoss } from './baselines/relaunch.ts';
import { CLI_WAITER_SECONDS, resizeInPlace } from './baselines/resize-in-place.ts';

const DATABASE = 'lighthouse';
const WANTED_TYPE = 't4g.medium';
/** After a baseline's last call: the host boots, the database starts, and the client writes on. */
const AFTERMATH_SECONDS = 180;

/** A way to come through it: it makes it happen, and resolves when everything is over. */
type Way = (simulation: Simulation) => Promise<void>;

interface Case {
  readonly name: string;
  /** Before it begins. */
  readonly prepare?: Way;
  /** Ours first. */
  readonly ways: Readonly<Record<string, Way>>;
  /** Of the host on which the database has to be in the end. */
  readonly instanceType?: string;
}

const CASES: readonly Case[] = [
  {
    name: 'Spot interruption',
    ways: {
      Keeper: (simulation) => byKeeper(simulation, interrupt),
      'relaunch after loss, 60 s poll': (simulation) => byRelaunch(simulation, interrupt),
    },
  },
  {
    name: 'Host lost without notice',
    ways: {
      Keeper: (simulation) => byKeeper(simulation, powerOff),
      'relaunch after loss, 60 s poll': (simulation) => byRelaunch(simulation, powerOff),
    },
  },
  {
    name: `Scale-up to ${WANTED_TYPE}`,
    prepare: moveToOnDemand,
    instanceType: WANTED_TYPE,
    ways: {
      Keeper: (simulation) => byKeeper(simulation, requestScaleUp),
      [`resize in place, aws ec2 wait (${CLI_WAITER_SECONDS} s)`]: (simulation) =>
        byResize(simulation, CLI_WAITER_SECONDS),
      'resize in place, 1 s poll': (simulation) => byResize(simulation, 1),
    },
  },
];

/**
 * Seconds without acknowledged commits, ours beside what others do, on the same local cloud.
 *
 * @param seeds how many, from 1
 * @throws Error when a database does not come back, or has lost something
 */
export async function downtime(seeds: number): Promise<string> {
  const assembly = await synthesize();
  const lines = [row('downtime, seconds', 'median', 'min–max', 'of Keeper’s')];
  for (const each of CASES) {
    lines.push(each.name);
    let ours: number | undefined;
    for (const [way, play] of Object.entries(each.ways)) {
      const gaps: number[] = [];
      for (let seed = 1; seed <= seeds; seed++) {
        const simulation = await Simulation.start({ assembly, database: DATABASE, seed, firstHost: 'placed' });
        gaps.push(await longestGap(simulation, each, play));
      }
      gaps.sort((a, b) => a - b);
      const median = medianOf(gaps);
      const ratio = ours === undefined ? '' : `${(median / ours).toFixed(1)} ×`;
      ours ??= median;
      lines.push(row(`  ${way}`, median.toFixed(1), `${gaps[0]?.toFixed(1)}–${gaps.at(-1)?.toFixed(1)}`, ratio));
    }
  }
  return [...lines, ...explanation(seeds)].join('\n');
}

function row(way: string, median: string, spread: string, ratio: string): string {
  return `${way.padEnd(38)}${median.padStart(10)}${spread.padStart(16)}${ratio.padStart(14)}`;
}

function explanation(seeds: number): string[] {
  return [
    `Longest gap between acknowledged commits of a client that writes 200 rows a second; seeds 1–${seeds}, virtual time,`,
    'modelled hosts, AWS as slow as in drill/cloud/latencies.ts. No run lost an acknowledged row. The others are in',
    'bench/baselines, without a human’s pauses: the same template, user data and volume, and Keeper switched off.',
  ];
}

function medianOf(sorted: readonly number[]): number {
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

/** In seconds. @throws Error when the database has not come through it as it should */
async function longestGap(simulation: Simulation, { name, prepare, instanceType }: Case, play: Way): Promise<number> {
  await prepare?.(simulation);
  pairLatencies(simulation.local.cloud);
  const begin = simulation.clock.now();
  await play(simulation);
  const { lost, gaps } = simulation.ledger();
  if (!simulation.serves) throw new Error(`${name}: the database does not come back`);
  if (lost > 0) throw new Error(`${name}: ${lost} acknowledged rows are lost`);
  const type = simulation.local.ec2.machine(simulation.holder)?.identity.instanceType;
  if (instanceType && type !== instanceType) throw new Error(`${name}: the database is on a ${type}`);
  return Math.max(0, ...gaps.filter(({ to }) => to > begin).map(({ from, to }) => to - from)) / 1000;
}

/** The n-th stop, boot or attachment of a seed takes AWS the same time in every way, however often that one asks meanwhile. */
function pairLatencies(cloud: Cloud): void {
  const random = cloud.random.fork('paired latencies');
  const streams = new Map<LatencyName, Random>();
  cloud.faults.onLatency = (name) => {
    const stream = streams.get(name) ?? random.fork(name);
    streams.set(name, stream);
    return sampleLatency(name, stream);
  };
}

async function byKeeper(simulation: Simulation, happen: (simulation: Simulation) => void): Promise<void> {
  happen(simulation);
  await simulation.settle();
}

async function byRelaunch(simulation: Simulation, happen: (simulation: Simulation) => void): Promise<void> {
  const operator = new Operator(simulation);
  const { holder, clock, local } = simulation;
  const phase = local.cloud.random.fork('baseline').next();
  happen(simulation);
  await clock.run(relaunchAfterLoss(operator, holder, phase));
  await simulation.pass(AFTERMATH_SECONDS);
}

async function byResize(simulation: Simulation, pollSeconds: number): Promise<void> {
  const operator = new Operator(simulation);
  await simulation.clock.run(resizeInPlace(operator, simulation.holder, WANTED_TYPE, pollSeconds));
  await simulation.pass(AFTERMATH_SECONDS);
}

function interrupt(simulation: Simulation): void {
  simulation.local.ec2.interrupt(simulation.holder);
}

function powerOff(simulation: Simulation): void {
  simulation.asPerson('ec2', 'TerminateInstances', { InstanceIds: [simulation.holder], SkipOsShutdown: true });
}

function requestScaleUp(simulation: Simulation): void {
  start(simulation, 'scale-up', { instanceType: WANTED_TYPE });
}

/** Only an on-demand instance can be stopped and changed. */
async function moveToOnDemand(simulation: Simulation): Promise<void> {
  const { ec2, ssm } = simulation.local;
  const instanceTypes = ssm.parameterValue(`/keeper/${DATABASE}/host/instance-types`).split(',');
  for (const type of instanceTypes) ec2.capacity(type, 'spot', false);
  start(simulation, 'relocate', {});
  await simulation.settle();
  for (const type of instanceTypes) ec2.capacity(type, 'spot', true);
}

function start(simulation: Simulation, workflow: string, request: Shape): void {
  const stateMachineArn = simulation.local.cloud.arn('states', `stateMachine:keeper-${workflow}`);
  const input = JSON.stringify({ database: DATABASE, ...request });
  simulation.asPerson('states', 'StartExecution', { stateMachineArn, name: `bench-${workflow}`, input });
}
