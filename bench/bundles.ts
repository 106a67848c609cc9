import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { synthesize } from '../drill/assembly.ts';

const RUNS = 10;

/**
 * The field's best-known Spot termination handler as it ships: bytes and load time, two rounds, on the same kind of
 * machine (github-aws-runners/terraform-aws-github-runner, termination-watcher, at 4475534, bundled by ncc).
 */
const PEER = { name: 'for comparison: termination-watcher', bytes: 4_360_000, milliseconds: '331–385' };

/** What on-interruption may weigh at most: it stands between the notice and everything else. */
const TARGET = { name: 'on-interruption', kilobytes: 350, milliseconds: 70 };

/** Bytes and load time of every function's bundle: the median of ten fresh processes each. */
export async function bundles(): Promise<string> {
  const assembly = await synthesize();
  const lines = [
    `${'bundle'.padEnd(38)}${'bytes'.padStart(12)}${'load ms (median of 10, min–max)'.padStart(36)}${'of the peer'.padStart(14)}`,
  ];
  for (const { name, directory } of functionsOf(assembly)) {
    const file = join(directory, 'index.js');
    const bytes = statSync(file).size;
    const times = Array.from({ length: RUNS }, () => loadOnce(file)).sort((a, b) => a - b);
    const median = ((times[RUNS / 2 - 1] ?? 0) + (times[RUNS / 2] ?? 0)) / 2;
    const verdict = name === TARGET.name ? `  target ≤ ${TARGET.kilobytes} kB, ≤ ${TARGET.milliseconds} ms` : '';
    const spread = `${median.toFixed(0)} (${times[0]?.toFixed(0)}–${times.at(-1)?.toFixed(0)})`;
    lines.push(
      `${name.padEnd(38)}${bytes.toLocaleString('en').padStart(12)}${spread.padStart(36)}${`${((100 * bytes) / PEER.bytes).toFixed(0)} %`.padStart(14)}${verdict}`,
    );
  }
  lines.push(`${PEER.name.padEnd(38)}${PEER.bytes.toLocaleString('en').padStart(12)}${PEER.milliseconds.padStart(36)}`);
  return lines.join('\n');
}

function functionsOf(assembly: string): { name: string; directory: string }[] {
  const template = JSON.parse(readFileSync(join(assembly, 'Keeper.template.json'), 'utf8'));
  const resources = Object.values(template.Resources) as {
    Type: string;
    Metadata?: Record<string, string>;
  }[];
  return resources
    .filter((resource) => resource.Type === 'AWS::Lambda::Function')
    .map(({ Metadata }) => ({
      name: Metadata?.['aws:cdk:path']?.split('/')[1] ?? '?',
      directory: join(assembly, Metadata?.['aws:asset:path'] ?? ''),
    }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** Milliseconds that a fresh process takes to load the bundle, without its own start. */
function loadOnce(file: string): number {
  const script = `const t = performance.now(); require(${JSON.stringify(file)}); process.stdout.write(String(performance.now() - t)); process.exit(0)`;
  const variables = ['RELOCATE_ARN', 'NOTE_NOTICE_ARN', 'RELEASE_DOCUMENT'].map((name) => [name, 'unused']);
  const env = { ...process.env, AWS_REGION: 'us-east-1', DATABASES: '{}', ...Object.fromEntries(variables) };
  return Number(execFileSync(process.execPath, ['-e', script], { env, encoding: 'utf8' }));
}
