import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installPackages } from '../drill/system.ts';

/**
 * `npm test`: formatter, linter and types, then all tests. Quiet when green; its last line is the count. Arguments are
 * passed on to vitest.
 */
const CHECKS: readonly (readonly [what: string, command: string, ...args: string[]])[] = [
  ['format and lint', 'biome', 'check', '--error-on-warnings', '.'],
  ['types', 'tsc', '--noEmit'],
];

let passed = 0;
let failed = 0;
for (const [what, command, ...args] of CHECKS) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status === 0) passed++;
  else {
    failed++;
    console.error(`${what}: ${command} ${args.join(' ')}\n${stdout}${stderr}`);
  }
}

try {
  await installPackages((line) => console.error(line));
} catch (error) {
  // Tests with real hosts leave themselves out where they cannot run; everything else does not need these programs.
  console.error((error as Error).message);
}

const directory = mkdtempSync(join(tmpdir(), 'keeper-test-'));
const report = join(directory, 'report.json');
const reporters = ['--reporter=minimal', '--reporter=json', `--outputFile.json=${report}`];
spawnSync('vitest', ['run', ...reporters, ...process.argv.slice(2)], { stdio: 'inherit' });
try {
  const { numPassedTests, numFailedTests, numFailedTestSuites, success } = JSON.parse(readFileSync(report, 'utf8'));
  passed += numPassedTests;
  failed += success ? 0 : Math.max(numFailedTests, numFailedTestSuites, 1);
} catch {
  console.error('vitest ended without a report');
  failed++;
}
rmSync(directory, { recursive: true });
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
