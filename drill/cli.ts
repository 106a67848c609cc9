import { parseArgs } from 'node:util';
import config from '../keeper.config.ts';
import { synthesize } from './assembly.ts';
import { renderReport } from './report.ts';
import { SABOTAGES, type Sabotage } from './sabotage.ts';
import { spotInterruption } from './scenarios/spot-interruption.ts';
import { openStage } from './stage.ts';
import { chooseEngine, installPackages } from './system.ts';
import { LiveView, PlainView } from './view.ts';

const SCENARIOS = { 'spot-interruption': spotInterruption } as const;
type ScenarioName = keyof typeof SCENARIOS;

const USAGE = `npm run drill -- [SCENARIO] [--json] [--seed N] [--engine auto|docker|process|modelled] [--rate ROWS_PER_SECOND] [--sabotage HOW]

Plays a failure through on this machine: the synthesized app in a local cloud, hosts with real disks and a real
PostgreSQL, and a client that writes all the while. Nothing of it reaches AWS.

scenarios  ${Object.keys(SCENARIOS).join(', ')}
--json     one JSON object on stdout
--seed     latencies and chances; the same seed draws the same ones (default 1)
--engine   process: the PostgreSQL of this machine; modelled: no disks at all; auto: the best there is (default)
--rate     rows a second that the client writes (default 200)
--sabotage break something, to see that the drill fails: ${Object.keys(SABOTAGES).join(', ')}`;

class UsageError extends Error {}

function parseArguments(argv: readonly string[]) {
  const options = {
    json: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    engine: { type: 'string', default: 'auto' },
    rate: { type: 'string', default: '200' },
    sabotage: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('.')[0]}; write npm run drill -- --help`);
  }
  const { values, positionals } = parsed;
  const [scenario = 'spot-interruption', ...more] = positionals;
  if (!(scenario in SCENARIOS) || more.length > 0) {
    throw new UsageError(
      `there is no scenario ${JSON.stringify(positionals.join(' '))}; write one of ${Object.keys(SCENARIOS).join(', ')}`,
    );
  }
  if (values.sabotage !== undefined && !(values.sabotage in SABOTAGES)) {
    throw new UsageError(
      `--sabotage ${values.sabotage} is not known; write one of ${Object.keys(SABOTAGES).join(', ')}`,
    );
  }
  return {
    scenario: scenario as ScenarioName,
    json: values.json,
    help: values.help,
    seed: wholeNumber('--seed', values.seed, 0, 2 ** 31),
    rate: wholeNumber('--rate', values.rate, 1, 5_000),
    engine: values.engine,
    sabotage: values.sabotage as Sabotage | undefined,
  };
}

function wholeNumber(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(
    `${option} ${text} is no whole number from ${least} to ${most}; write for example ${option} ${Math.max(least, 200)}`,
  );
}

async function main(): Promise<void> {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return;
  }
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const engine = await chooseEngine(options.engine, say).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  if (engine === 'process') await installPackages(say);

  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

  say('synthesizing the app, deploying it into the local cloud, and waiting for the first host …');
  const [database] = Object.keys(config.databases);
  const stage = await openStage({ assembly: await synthesize(), database: database ?? '', seed: options.seed, engine });
  const view = process.stderr.isTTY ? new LiveView(process.stderr, () => stage.clock.now()) : new PlainView(say);
  try {
    const report = await SCENARIOS[options.scenario](stage, {
      seed: options.seed,
      engine,
      rate: options.rate,
      ...(options.sabotage && { sabotage: options.sabotage }),
      watcher: view,
      signal: interrupted.signal,
    });
    view.close();
    console.log(options.json ? JSON.stringify(report) : renderReport(report));
    process.exitCode = report.ok ? 0 : 1;
  } finally {
    view.close();
    await stage.close();
  }
}

try {
  await main();
} catch (error) {
  const isUsage = error instanceof UsageError;
  console.error(isUsage ? `drill: ${error.message}` : error);
  process.exitCode = isUsage ? 2 : 1;
}
// Execution environments and timers of the local cloud must not keep a finished drill alive.
process.exit();
