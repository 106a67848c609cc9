import { parseArgs } from 'node:util';
import { bundles } from './bundles.ts';
import { downtime } from './downtime.ts';

const BENCHMARKS: Readonly<Record<string, (seeds: number) => Promise<string>>> = { bundles, downtime };
const USAGE = `npm run bench [-- ${Object.keys(BENCHMARKS).join('|')}] [--seeds N]

bundles   what every function weighs, and how long it loads
downtime  how long the database is away, ours beside what others do; --seeds: how many seeds (default 10)`;

const OPTIONS = {
  seeds: { type: 'string', default: '10' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

class UsageError extends Error {}

function parseArguments(args: readonly string[]) {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    const [name] = positionals;
    if (positionals.length > 1 || (name !== undefined && !BENCHMARKS[name])) {
      throw new UsageError(
        `there is no benchmark ${JSON.stringify(positionals.join(' '))}; write one of ${Object.keys(BENCHMARKS).join(', ')}`,
      );
    }
    const seeds = Number(values.seeds);
    if (!/^\d{1,4}$/.test(values.seeds) || seeds < 1) {
      throw new UsageError(`--seeds ${values.seeds} is no whole number from 1 to 9999; write for example --seeds 10`);
    }
    return { name, seeds, help: values.help };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${(error as Error).message.split('. ')[0]}; write npm run bench -- --help`);
  }
}

try {
  const { name, seeds, help } = parseArguments(process.argv.slice(2));
  if (help) console.log(USAGE);
  for (const [each, run] of help ? [] : Object.entries(BENCHMARKS)) {
    if (name === undefined || name === each) console.log(await run(seeds));
  }
} catch (error) {
  const isUsage = error instanceof UsageError;
  console.error(isUsage ? `bench: ${error.message}` : error);
  process.exitCode = isUsage ? 2 : 1;
}
