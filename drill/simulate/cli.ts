import config from '../../keeper.config.ts';
import { synthesize } from '../assembly.ts';
import { RealClock } from '../cloud/clock.ts';
import { parseArguments, USAGE, UsageError } from './arguments.ts';
import { runSchedules } from './pool.ts';
import { renderReport, summarise } from './report.ts';
import { runSchedule, type ScheduleResult, type World } from './run.ts';
import { drawSchedule } from './schedule.ts';
import { planLines, Story } from './trace.ts';

/** Schedules between two lines of progress. */
const PROGRESS_EVERY = 100;

async function main(): Promise<void> {
  const { schedules, firstSeed, workflow, json, trace, help } = parseArguments(process.argv.slice(2));
  if (help) {
    console.log(USAGE);
    return;
  }
  const [database = '', { instanceTypes } = { instanceTypes: [] }] = Object.entries(config.databases)[0] ?? [];
  const world: World = { assembly: await synthesize(), database, instanceTypes: [...instanceTypes], workflow };
  const clock = new RealClock();
  const beganAt = clock.now();
  const results: ScheduleResult[] = [];
  if (trace) results.push(await tell(firstSeed, world));
  else {
    await runSchedules(firstSeed, schedules, world, (result) => {
      results.push(result);
      for (const { seed, at, promise, detail } of result.violations) {
        process.stderr.write(`seed ${seed}, ${at} s: ${promise}: ${detail}\n`);
      }
      if (results.length % PROGRESS_EVERY === 0) process.stderr.write(`${results.length} of ${schedules}\n`);
    });
  }
  const report = summarise(results, firstSeed, (clock.now() - beganAt) / 1000);
  console.log(json ? JSON.stringify(report) : renderReport(report, workflow));
  process.exitCode = report.violations.length === 0 ? 0 : 1;
}

/** Plays one schedule and prints what happens. */
async function tell(seed: number, world: World): Promise<ScheduleResult> {
  for (const line of planLines(drawSchedule(seed, world.workflow))) console.log(line);
  return runSchedule(seed, world, ({ clock, local }) => {
    const story = new Story(clock.now(), (line) => console.log(line));
    local.cloud.onHappening((happening) => story.add(happening));
  });
}

try {
  await main();
} catch (error) {
  const isUsage = error instanceof UsageError;
  console.error(isUsage ? `simulate: ${error.message}` : error);
  process.exitCode = isUsage ? 2 : 1;
}
