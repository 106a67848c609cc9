import { Simulation } from '../simulation.ts';
import { ScheduledFaults } from './faults.ts';
import { drawSchedule, type Workflow } from './schedule.ts';

/** What did not hold, and when: seconds since the beginning of the schedule. */
export interface Violation {
  readonly seed: number;
  readonly promise: string;
  readonly at: number;
  readonly detail: string;
}

/** What came of one schedule. */
export interface ScheduleResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  /** How often each kind of fault was injected. */
  readonly faultsInjected: Readonly<Record<string, number>>;
  readonly outcome: string;
}

export interface World {
  /** The folder that `cdk synth` wrote. */
  readonly assembly: string;
  readonly database: string;
  readonly instanceTypes: readonly string[];
  readonly workflow: Workflow;
}

/** How long everything may take to come to rest once nothing goes wrong any more. */
const LIMIT_SECONDS = 7_200;
/** At rest is what does not move through two looks of reconcile. */
const QUIET_SECONDS = 150;

/**
 * Plays one schedule: the faults of its seed, then time for everything to come to rest, then the promises.
 *
 * @param onStart called when the first host serves and the faults begin
 */
export async function runSchedule(
  seed: number,
  { assembly, database, instanceTypes, workflow }: World,
  onStart: (simulation: Simulation) => void = () => {},
): Promise<ScheduleResult> {
  const faults = new ScheduledFaults(drawSchedule(seed, workflow), instanceTypes);
  const simulation = await Simulation.start({
    assembly,
    database,
    seed,
    firstHost: 'placed',
    faults: {
      onCall: (request) => faults.onCall(request),
      onLatency: (name, ms) => faults.onLatency(name, ms),
      onEvent: (event) => faults.onEvent(event),
    },
    hostFaults: (number) => faults.ofHost(number),
  });
  const beganAt = simulation.clock.now();
  onStart(simulation);
  const violations: Violation[] = [];
  const seconds = (at: number) => Math.round(at - beganAt) / 1000;
  try {
    await faults.play(simulation);
    await comeToRest(simulation);
    for (const { promise, at, detail } of simulation.brokenPromises()) {
      violations.push({ seed, promise, at: seconds(at), detail });
    }
  } catch (error) {
    // The local cloud was asked for something that it does not model: nobody knows what AWS would have done.
    violations.push({ seed, promise: 'the local cloud', at: seconds(simulation.clock.now()), detail: String(error) });
  }
  return { seed, violations, faultsInjected: faults.injected, outcome: outcomeOf(simulation) };
}

async function comeToRest(simulation: Simulation): Promise<void> {
  for (let quiet = 0, passed = 0; quiet < QUIET_SECONDS && passed < LIMIT_SECONDS; passed += 10) {
    await simulation.pass(10);
    const done = simulation.isAtRest && simulation.serves && simulation.watch.orphans().length === 0;
    quiet = done ? quiet + 10 : 0;
  }
}

/** In a few words, for statistics. */
function outcomeOf({ endings, runbooks }: Simulation): string {
  const [runbook] = runbooks;
  if (runbook) return runbook.status === 'SUCCEEDED' ? 'done' : `not done: ${runbook.error ?? runbook.status}`;
  if (endings.length === 0) return 'no relocation';
  const moves = endings.filter(({ output }) => String(output).includes('"outcome":"relocated"'));
  const failed = endings.some(({ status }) => status !== 'SUCCEEDED');
  if (moves.length === 0) return failed ? 'relocation failed' : 'nothing to do';
  const byReconcile = moves.some(({ name }) => name.includes('-recover-'));
  const how = moves.length > 1 ? 'relocated more than once' : byReconcile ? 'relocated by reconcile' : 'relocated';
  return failed ? `${how}, after a failure` : how;
}
