import { parseArgs } from 'node:util';
import { WORKFLOWS, type Workflow } from './schedule.ts';

export const USAGE = `npm run simulate -- [--schedules N] [--first-seed S] [--workflow NAME] [--json]
npm run simulate -- [--workflow NAME] --seed S --trace

Plays schedules of faults against the synthesized app, on modelled hosts in virtual time: what AWS takes, loses, delays
and refuses, at the worst moments. Afterwards every promise has to hold. Each schedule is drawn from its seed.

--schedules   how many (default 200)
--first-seed  the seed of the first, the others count up (default 1)
--workflow    what a schedule begins with: relocate (a host is lost or announced, default), scale-up, patch or
              backup
--json        one JSON object on stdout
--seed        play this one only
--trace       tell its story: what went wrong, and what Keeper decided and why`;

export class UsageError extends Error {}

export interface SimulateArguments {
  readonly schedules: number;
  readonly firstSeed: number;
  readonly workflow: Workflow;
  readonly json: boolean;
  readonly trace: boolean;
  readonly help: boolean;
}

/** @throws UsageError with one line that says what to write instead */
export function parseArguments(argv: readonly string[]): SimulateArguments {
  const options = {
    schedules: { type: 'string' },
    'first-seed': { type: 'string' },
    workflow: { type: 'string', default: 'relocate' },
    seed: { type: 'string' },
    json: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  } as const;
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];
  try {
    ({ values } = parseArgs({ args: [...argv], options }));
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('.')[0]}; write npm run simulate -- --help`);
  }
  const { schedules, seed, json, trace, help } = values;
  const workflow = WORKFLOWS.find((name) => name === values.workflow);
  if (!workflow) {
    throw new UsageError(
      `there is no workflow ${JSON.stringify(values.workflow)}; write one of ${WORKFLOWS.join(', ')}`,
    );
  }
  if (trace && seed === undefined) throw new UsageError('--trace tells of one schedule; write --seed S --trace');
  if (trace && json) throw new UsageError('--trace is text; leave --json out');
  if (seed !== undefined && (schedules !== undefined || values['first-seed'] !== undefined)) {
    throw new UsageError('--seed is one schedule; leave --schedules and --first-seed out');
  }
  return {
    schedules: seed === undefined ? wholeNumber('--schedules', schedules ?? '200', 1) : 1,
    firstSeed:
      seed === undefined ? wholeNumber('--first-seed', values['first-seed'] ?? '1', 0) : wholeNumber('--seed', seed, 0),
    workflow,
    json,
    trace,
    help,
  };
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value < 2 ** 31) return value;
  throw new UsageError(`${option} ${text} is no whole number from ${least}; write for example ${option} 200`);
}
