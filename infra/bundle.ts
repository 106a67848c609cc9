import { build } from 'esbuild';
import { literalKeys } from './literal-keys.ts';

/** `node infra/bundle.ts ENTRY OUTPUT`: one of functions/ with all that it needs, as Lambda loads it. */
const [entry = '', outfile = ''] = process.argv.slice(2);
await build({
  entryPoints: [entry],
  outfile,
  bundle: true,
  minify: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  // The SDK is pinned with the rest, and module-first halves its size and load time.
  mainFields: ['module', 'main'],
  plugins: [literalKeys],
  logLevel: 'warning',
});
