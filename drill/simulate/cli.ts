import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import config from '../../keeper.config.ts';
import { synthesize } from '../assembly.ts';
import { runSchedule, type ScheduleResult, type Violation } from './run.ts';

const USAGE = `npm run simulate -- [--schedules N] [--first-seed S] [--workflow relocate] [--json]
npm run simulate -- --seed S --trace

Plays fault schedules through in virtual time and checks the promises of docs/promises.md after each.

--schedules   how many (default 200)
--first-seed  the seed of the first one (default 1)
--workflow    relocate is the only one yet
--json        one JSON object on stdout
--seed        one schedule only; with --trace everything that happens in it`;

class UsageError extends Error {}

interface Work {
  readonly assembly: string;
  readonly database: string;
}

function parseArguments(argv: string[]) {
  const options = {
    schedules: { type: 'string', default: '200' },
    'first-seed': { type: 'string', default: '1' },
    workflow: { type: 'string', default: 'relocate' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  } as const;
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];
  try {
    ({ values } = parseArgs({ args: argv, options }));
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('.')[0]}; write npm run simulate -- --help`);
  }
  if (values.workflow !== 'relocate')
    throw new UsageError(`--workflow ${values.workflow} is not simulated; write relocate`);
  if (values.trace && values.seed === undefined) throw new UsageError('--trace needs one seed; write --seed 1 --trace');
  return {
    help: values.help,
    json: values.json,
    trace: values.trace,
    schedules: values.seed === undefined ? wholeNumber('--schedules', values.schedules, 1) : 1,
    firstSeed:
      values.seed === undefined
        ? wholeNumber('--first-seed', values['first-seed'], 0)
        : wholeNumber('--seed', values.seed, 0),
  };
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value < 2 ** 31) return value;
  throw new UsageError(`${option} ${text} is no whole number from ${least} on; write for example ${option} 100`);
}

async function main(): Promise<void> {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return;
  }
  const [database = ''] = Object.keys(config.databases);
  const work: Work = { assembly: await synthesize(), database };
  const { firstSeed, schedules } = options;
  const began = performance.now();
  const results = new Map<number, ScheduleResult>();
  const note = (seed: number, result: ScheduleResult) => {
    results.set(seed, result);
    for (const { promise, detail } of result.violations)
      console.error(`seed ${seed}: ${promise}: ${detail.split('\n')[0]}`);
    if (results.size % 100 === 0) console.error(`${results.size} of ${schedules}`);
  };
  if (options.trace) note(firstSeed, await runSchedule({ ...work, seed: firstSeed, trace: console.log }));
  else await spread(work, firstSeed, schedules, note);

  const violations: Violation[] = [...results.values()].flatMap((result) => result.violations);
  const report = {
    schedules,
    firstSeed,
    violations,
    schedulesPerSecond: Math.round((schedules / (performance.now() - began)) * 100_000) / 100,
    faultsInjected: sum([...results.values()].map(({ injected }) => injected)),
    outcomes: sum([...results.values()].map(({ outcome }) => ({ [outcome]: 1 }))),
  };
  console.log(options.json ? JSON.stringify(report) : render(report));
  process.exitCode = violations.length === 0 ? 0 : 1;
}

/** A few schedules for each core in turn; one after the other where they are few. */
async function spread(
  work: Work,
  firstSeed: number,
  schedules: number,
  note: (seed: number, result: ScheduleResult) => void,
): Promise<void> {
  const seeds = Array.from({ length: schedules }, (_, i) => firstSeed + i);
  const workers = Math.min(availableParallelism(), schedules);
  await Promise.all(
    Array.from({ length: workers }, async () => {
      const worker = new Worker(new URL(import.meta.url), { workerData: work });
      try {
        for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
          const answer = Promise.withResolvers<ScheduleResult>();
          worker.once('message', answer.resolve);
          worker.once('error', answer.reject);
          worker.postMessage(seed);
          note(seed, await answer.promise);
          worker.removeAllListeners('error');
        }
      } finally {
        await worker.terminate();
      }
    }),
  );
}

function sum(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const record of records)
    for (const [key, value] of Object.entries(record)) total[key] = (total[key] ?? 0) + value;
  return total;
}

function render(report: {
  schedules: number;
  firstSeed: number;
  violations: Violation[];
  schedulesPerSecond: number;
  faultsInjected: object;
  outcomes: object;
}): string {
  const table = (title: string, counts: object) => [
    title,
    ...Object.entries(counts).map(([name, count]) => `  ${String(count).padStart(7)}  ${name}`),
  ];
  return [
    ...table('Faults', report.faultsInjected),
    ...table('Relocations ended as', report.outcomes),
    ...report.violations.map(
      ({ seed, promise, at, detail }) => `seed ${seed}, t+${at.toFixed(0)} s: ${promise}: ${detail}`,
    ),
    `${report.schedules} schedules from seed ${report.firstSeed}, ${report.schedulesPerSecond} a second: ${report.violations.length} promises broken.`,
  ].join('\n');
}

if (isMainThread) {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof UsageError ? `simulate: ${error.message}` : error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
} else {
  parentPort?.on('message', async (seed: number) => {
    parentPort?.postMessage(await runSchedule({ ...(workerData as Work), seed }));
  });
}
