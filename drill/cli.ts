import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import config from '../keeper.config.ts';
import { synthesize } from './assembly.ts';
import { RealClock } from './cloud/clock.ts';
import { Interruption, unlessAborted } from './interruption.ts';
import { abandoned, type DrillReport, renderReport } from './report.ts';
import { SABOTAGES, type Sabotage } from './sabotage.ts';
import { growVolume } from './scenarios/grow-volume.ts';
import { hostLost } from './scenarios/host-lost.ts';
import { scaleUp } from './scenarios/scale-up.ts';
import type { Scenario } from './scenarios/scenario.ts';
import { spotInterruption } from './scenarios/spot-interruption.ts';
import { verifyBackup } from './scenarios/verify-backup.ts';
import { chooseEngine, installPackages, requireRoom } from './system.ts';
import { openView, painter, type View } from './view.ts';

/** The first is the default. */
const SCENARIOS: readonly Scenario[] = [spotInterruption, hostLost, scaleUp, growVolume, verifyBackup];
const SCENARIO_NAMES = SCENARIOS.map(({ name }) => name).join(', ');

const USAGE = `npm run drill -- [SCENARIO] [--json] [--seed N] [--engine auto|docker|process|modelled] [--image REF]
                [--rate ROWS_PER_SECOND] [--sabotage HOW]

Plays a failure or a change through on this machine: the synthesized app in a local cloud, hosts with real disks and a real
PostgreSQL, and a client that writes all the while. Nothing of it reaches AWS.

scenarios
${SCENARIOS.map(({ name, what }) => `           ${name.padEnd(19)}${what}`).join('\n')}
--json     one JSON object on stdout (npm run --silent drill keeps npm's own lines away from it)
--seed     latencies and chances; the same seed draws the same ones (default 1)
--engine   docker: containers of the configured image, which this machine's Docker has; process: the PostgreSQL of this
           machine; modelled: no disks at all; auto: the best there is (default)
--image    another image for the containers, with a PostgreSQL that starts and stops as the official one does
--rate     rows a second that the client writes (default 200)
--sabotage break something, to see that the drill fails:
${Object.entries(SABOTAGES)
  .map(([name, what]) => `           ${name.padEnd(19)}${what}`)
  .join('\n')}`;

const OPTIONS = {
  json: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  engine: { type: 'string', default: 'auto' },
  image: { type: 'string' },
  rate: { type: 'string', default: '200' },
  sabotage: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** A cleanup that takes longer than this after Ctrl-C is left to the next drill. */
const CLEANUP_MS = 8_000;
/** Signals that arrive together are one: npm passes on what the terminal has sent to everybody. */
const TOGETHER_MS = 500;

const clock = new RealClock();

class UsageError extends Error {}

interface Arguments {
  readonly scenario: Scenario;
  readonly json: boolean;
  readonly help: boolean;
  readonly seed: number;
  readonly rate: number;
  readonly engine: string;
  readonly image: string | undefined;
  readonly sabotage: Sabotage | undefined;
}

function parseArguments(args: readonly string[]): Arguments {
  const { values, positionals } = parse(args);
  const wanted = positionals.join(' ') || SCENARIOS[0]?.name;
  const scenario = SCENARIOS.find(({ name }) => name === wanted);
  const { json, help, engine, image, sabotage } = values;
  if (!scenario) throw new UsageError(`there is no scenario ${wanted}; write one of ${SCENARIO_NAMES}`);
  if (sabotage !== undefined && !isSabotage(sabotage)) {
    throw new UsageError(`--sabotage ${sabotage} is not known; write one of ${Object.keys(SABOTAGES).join(', ')}`);
  }
  if (sabotage !== undefined && !scenario.sabotages.includes(sabotage)) {
    const rather = scenario.sabotages.length > 0 ? `write one of ${scenario.sabotages.join(', ')}` : 'leave it away';
    throw new UsageError(`--sabotage ${sabotage} does not go with ${scenario.name}; ${rather}`);
  }
  const seed = wholeNumber('--seed', values.seed, { least: 0, most: 2 ** 31, example: 1 });
  const rate = wholeNumber('--rate', values.rate, { least: 1, most: 5_000, example: 200 });
  return { scenario, json, help, seed, rate, engine, image, sabotage };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    const [option = ''] = /--?[^\s'=,]+/.exec(message) ?? [];
    if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
      const known = Object.keys(OPTIONS).map((name) => `--${name}`);
      throw new UsageError(`there is no option ${option}; write one of ${known.join(', ')}`);
    }
    const takesNone = /does not take an argument/.test(message);
    throw new UsageError(
      takesNone ? `${option} takes no value; write ${option}` : `${option} needs a value; write ${option}=VALUE`,
    );
  }
}

function isSabotage(name: string): name is Sabotage {
  return Object.hasOwn(SABOTAGES, name);
}

function wholeNumber(
  option: string,
  text: string,
  { least, most, example }: { least: number; most: number; example: number },
): number {
  if (/^\d{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
  throw new UsageError(
    `${option} ${text} is no whole number from ${least} to ${most}; write for example ${option} ${example}`,
  );
}

async function drill(options: Arguments, view: View, signal: AbortSignal): Promise<DrillReport> {
  const { scenario, seed, rate, sabotage } = options;
  const say = (line: string) => view.say(line);
  const [first] = Object.entries(config.databases);
  if (!first) throw new UsageError('keeper.config.ts has no database; write one there');
  const [database, { image: configured }] = first;
  const { engine, image } = await chooseEngine(options.engine, options.image, configured, say).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  if (sabotage && engine === 'modelled') {
    throw new UsageError(
      '--sabotage breaks real hosts; leave it away, or run it as root on Linux without --engine modelled',
    );
  }
  try {
    if (engine !== 'modelled') {
      await unlessAborted(installPackages(say), signal);
      requireRoom();
    }
    say('deploying the app into the local cloud, and waiting for the first host …');
    const assembly = await unlessAborted(synthesize(), signal);
    // Most of the drill is loaded here: until then wrong arguments are answered, and Ctrl-C is heard, at once.
    const [{ openStage }, { play }] = await Promise.all([import('./stage.ts'), import('./scenarios/play.ts')]);
    const stage = await openStage({ assembly, database, seed, engine, ...(image && { image }), signal });
    try {
      return await play(scenario, stage, {
        seed,
        engine,
        rate,
        ...(sabotage && { sabotage }),
        watcher: view,
        signal,
      });
    } finally {
      await stage.close();
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    return abandoned({ scenario: scenario.name, seed, engine }, (error as Error).message);
  }
}

/** Prints the report, and returns the exit code. */
async function main(view: View, signal: AbortSignal): Promise<number> {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const report = await drill(options, view, signal);
  view.close();
  if (options.json) {
    console.log(JSON.stringify(report));
  } else {
    const lines = renderReport(report).split('\n');
    const paint = painter(process.stdout);
    console.log([...lines.slice(0, -1), paint(report.ok ? 'good' : 'bad', lines.at(-1) ?? '')].join('\n'));
  }
  return report.ok ? 0 : 1;
}

/** The first signal ends the drill, which then cleans up; a second one, or a cleanup that takes long, ends it at once. */
function listenForSignals(view: View): AbortSignal {
  const interrupted = new AbortController();
  const end = (signal: NodeJS.Signals) => {
    view.close();
    console.error(`drill: ${signal}, ended at once; the next drill removes what this one has left`);
    process.exit(128 + constants.signals[signal]);
  };
  let first = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (first === 0) {
        first = clock.now();
        view.say(`drill: ${signal}, cleaning up …`);
        clock.after(CLEANUP_MS, () => end(signal));
        interrupted.abort(new Interruption(signal));
      } else if (clock.now() - first > TOGETHER_MS) {
        end(signal);
      }
    });
  }
  return interrupted.signal;
}

// A reader that has seen enough (`| head -1`) is no reason to leave anything behind.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const view = openView(process.stderr, () => clock.now());
const signal = listenForSignals(view);
let exitCode: number;
try {
  exitCode = await main(view, signal);
} catch (error) {
  view.close();
  if (error instanceof UsageError) {
    console.error(`drill: ${error.message}`);
    exitCode = 2;
  } else if (error instanceof Interruption) {
    console.error(`drill: ${error.message}; everything that it had made is removed`);
    exitCode = 128 + constants.signals[error.signal];
  } else {
    console.error(error);
    exitCode = 1;
  }
}
// Execution environments and timers of the local cloud must not keep a finished drill alive.
process.exit(exitCode);
