import { AwsError, type Cloud } from '../cloud/kernel.ts';
import { LATENCIES } from '../cloud/latencies.ts';
import type { Execution } from '../cloud/states/execution.ts';
import { unlessAborted } from '../interruption.ts';
import { type DrillReport, round, stepsSince } from '../report.ts';
import { sabotage } from '../sabotage.ts';
import type { Stage } from '../stage.ts';
import { floorWithin, type Part, partsOf } from '../story.ts';
import { type FinalAccount, holderOf, Observation, PAUSE_MS, sinceBeginning } from './observation.ts';
import type { PlayOptions, Scenario, Verdict } from './scenario.ts';

/** Writing before the beginning and after the end, so that the gap has two sides. */
const QUIET_MS = 3_000;
const POLL_MS = 100;

/** Plays a scenario while a client writes all the while. A drill that has failed ends early. */
export async function play(given: Scenario, stage: Stage, options: PlayOptions): Promise<DrillReport> {
  const scenario = (options.sabotage && given.spoiled?.[options.sabotage]) ?? given;
  const { end: rightEnd = 'SUCCEEDED', work, beginning } = scenario;
  const { clock, watch, local } = stage;
  const { watcher, signal } = options;
  const pause = (ms: number) => unlessAborted(clock.sleep(ms), signal);
  const source = holderOf(stage);
  watcher.say(`${stage.database} serves on ${source}; a client writes ${options.rate} rows a second`);
  const writer = await unlessAborted(stage.connect(options.rate), signal);
  const observation = new Observation(stage, scenario, source);
  writer.onProgress(({ acknowledged, lastAcknowledgedAt }) => {
    observation.committed(acknowledged, lastAcknowledgedAt);
    watcher.committed(acknowledged, lastAcknowledgedAt);
  });
  await pause(QUIET_MS);

  const began = clock.now();
  const executions = executionsFromNowOn(scenario, stage);
  local.cloud.onHappening((happening) => {
    watcher.happening(happening);
    observation.happened(happening);
  });
  watcher.begun(began, scenario.noticeSeconds);
  observation.begun(began);
  const { reasons } = observation;
  if (scenario.hastened) hasten(local.cloud, scenario.hastened);
  const verdict = await unlessAborted(begin(scenario, { stage, source, watcher }, reasons), signal);
  if (options.sabotage) sabotage(options.sabotage, stage, source);
  while (!observation.failed && !local.cloud.failure && endOf(executions()).status === 'RUNNING') {
    await pause(POLL_MS);
    await observation.check(executions().length > 0);
  }

  const { status, error, cause } = endOf(executions());
  if (local.cloud.failure) reasons.add(`the local cloud itself failed: ${local.cloud.failure.message}`);
  if (status === rightEnd) {
    watcher.say(`the ${work} took ${((clock.now() - began) / 1000).toFixed(1)} s from ${beginning} to its end`);
    await pause(QUIET_MS);
    await observation.diagnose(holderOf(stage));
  } else if (status !== 'RUNNING') {
    reasons.add(`the ${work} ended as ${status}${error === undefined ? '' : `: ${error}: ${cause}`}`);
  }
  await observation.settled();
  const account = await observation.readBack(writer, signal);
  if (status === rightEnd) {
    if (account.lost === null) reasons.add('the client cannot read back what it wrote');
    const { gaps, rows } = account;
    const end = { holder: holderOf(stage), gaps, rows, error, cause };
    for (const reason of await unlessAborted(verdict(end), signal)) reasons.add(reason);
  }
  // What a drill that ended early has left lying about is no orphan.
  if (status !== 'RUNNING') watch.conclude();
  const orphans = status === 'RUNNING' ? [] : watch.orphans();
  const startedAt = executions()[0]?.startDate.getTime();
  return report(scenario, stage, options, { began, startedAt, account, reasons, orphans });
}

/** From now on AWS takes less for one thing. */
function hasten(cloud: Cloud, { latency, factor }: NonNullable<Scenario['hastened']>): void {
  const { faults } = cloud;
  cloud.faults = {
    ...faults,
    onLatency: (name, sampled, subject) => {
      const ms = faults.onLatency?.(name, sampled, subject) ?? sampled;
      return name === latency ? ms * factor : ms;
    },
  };
}

/** For the reader of the report. */
function describeHaste({ latency, factor }: NonNullable<Scenario['hastened']>): string {
  const { medianMs, p99Ms } = LATENCIES[latency];
  return `AWS took ${factor} of its time for ${latency} (median ${medianMs / 1000} s, 99th percentile ${p99Ms / 1000} s), and all of it for everything else.`;
}

/** What AWS refuses is a reason to fail, in its own words. */
async function begin(
  scenario: Scenario,
  scene: Parameters<Scenario['begin']>[0],
  reasons: Set<string>,
): Promise<Verdict> {
  try {
    return await scenario.begin(scene);
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    reasons.add(`${scenario.name} cannot begin: ${error.code}: ${error.message}`);
    return async () => [];
  }
}

/** Finds the executions of the scenario's workflow that begin from now on, oldest first. */
function executionsFromNowOn({ workflow }: Scenario, { local, database }: Stage): () => Execution[] {
  const before = local.states.executions.length;
  return () =>
    local.states.executions
      .slice(before)
      .filter(({ machine }) => machine.name === `keeper-${workflow}`)
      .filter(({ name }) => workflow !== 'relocate' || name.startsWith(`${database}-`));
}

/** How they ended together: RUNNING until all of them have, then as the first that did not succeed. */
function endOf(executions: readonly Execution[]): Pick<Execution, 'status' | 'error' | 'cause'> {
  const running = { status: 'RUNNING', error: undefined, cause: undefined } as const;
  if (executions.some(({ status }) => status === 'RUNNING')) return running;
  return executions.find(({ status }) => status !== 'SUCCEEDED') ?? executions.at(-1) ?? running;
}

interface Findings {
  readonly began: number;
  /** When the first execution started. */
  readonly startedAt: number | undefined;
  readonly account: FinalAccount;
  readonly reasons: ReadonlySet<string>;
  readonly orphans: readonly string[];
}

function report(
  scenario: Scenario,
  stage: Stage,
  options: PlayOptions,
  { began, startedAt, account, reasons, orphans }: Findings,
): DrillReport {
  const { local, watch } = stage;
  const [outage = { from: began, to: began }, ...pauses] = [...account.gaps].sort(
    (a, b) => b.to - b.from - (a.to - a.from),
  );
  const failures = [...reasons];
  for (const { from, to } of pauses.filter((gap) => gap.to - gap.from > PAUSE_MS)) {
    const seconds = ((to - from) / 1000).toFixed(1);
    failures.push(`the client could not commit for ${seconds} s at ${sinceBeginning(from, began)}, beside the move`);
  }
  if (account.acknowledged === 0) failures.push('no row was acknowledged');
  if (account.lost) failures.push(`${account.lost} acknowledged rows are not in the database`);
  const parts = partsOf(
    local.cloud.happenings.filter(({ at }) => at >= began),
    watch.liveVolume()?.volumeId ?? '',
  );
  if (scenario.crashes && startedAt !== undefined) parts.unshift(detection(began, startedAt));
  const deniedCalls = local.cloud.denied.map(
    ({ action, resource, role, reason }) => `${role.split('/').at(-1)}: ${action} on ${resource}: ${reason}`,
  );
  const promisesBroken = watch.broken.map(({ promise, detail }) => `${promise}: ${detail}`);
  return {
    scenario: scenario.name,
    seed: options.seed,
    engine: options.engine,
    ok: failures.length + deniedCalls.length + promisesBroken.length + orphans.length === 0,
    outcome: scenario.outcome,
    reasons: failures,
    downtimeSeconds: round((outage.to - outage.from) / 1000),
    floorSeconds: round(floorWithin(parts, outage) / 1000),
    acknowledgedRows: account.acknowledged,
    lostRows: account.lost,
    steps: stepsSince(parts, began),
    notes: scenario.hastened ? [describeHaste(scenario.hastened)] : [],
    awsCalls: local.cloud.callCounts,
    deniedCalls,
    unusedPermissions: local.iam.unusedPermissions().map(({ role, action }) => `${role}: ${action}`),
    orphans,
    promisesBroken,
  };
}

/** What passed before anybody knew: the event's way, or reconcile's turn. */
function detection(from: number, to: number): Part {
  return { name: 'detect', from, to, floor: false };
}
