import { bundles } from './bundles.ts';

const BENCHMARKS: Readonly<Record<string, () => Promise<string>>> = { bundles };
const USAGE = `npm run bench [-- ${Object.keys(BENCHMARKS).join('|')}]`;

const [name, ...rest] = process.argv.slice(2);
if (name === '--help' || name === '-h') {
  console.log(USAGE);
} else if (rest.length > 0 || (name !== undefined && !BENCHMARKS[name])) {
  console.error(`bench: there is no benchmark ${JSON.stringify(name)}; write ${USAGE}`);
  process.exitCode = 2;
} else {
  for (const [each, run] of Object.entries(BENCHMARKS)) {
    if (name === undefined || name === each) console.log(await run());
  }
}
