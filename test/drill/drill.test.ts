import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { canRunHosts } from '../commands/hosts.ts';

const CLI = fileURLToPath(new URL('../../drill/cli.ts', import.meta.url));

/** Runs a drill on real disks. @param onLine is given each line of stderr */
async function drill(args: readonly string[], onLine: (line: string, kill: (signal: NodeJS.Signals) => void) => void) {
  const child = spawn(process.execPath, [CLI, '--engine', 'process', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk;
    for (const line of String(chunk).split('\n')) onLine(line, (signal) => child.kill(signal));
  });
  const [exitCode] = await once(child, 'close');
  const left = readdirSync(tmpdir()).filter((name) => name.startsWith(`keeper-drill-${child.pid}-`));
  return { exitCode, stdout, stderr, left };
}

describe.runIf(canRunHosts)('npm run drill', () => {
  it('fails with the reason when PostgreSQL is killed, as one JSON object, and leaves nothing behind', async () => {
    const { exitCode, stdout, left } = await drill(['--json', '--sabotage', 'kill-postgres'], () => {});
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ scenario: 'spot-interruption', seed: 1, engine: 'process', ok: false, lostRows: 0 });
    expect(report.reasons[0]).toMatch(/^i-\w+: PostgreSQL crashed or was killed, and Docker started it again/);
    expect({ exitCode, left }).toEqual({ exitCode: 1, left: [] });
  }, 120_000);

  it.each(['deploying', 'serves on'])('cleans up when it is interrupted after it said: %s', async (moment) => {
    let interruptedAt = 0;
    const { exitCode, stdout, stderr, left } = await drill([], (line, kill) => {
      if (!line.includes(moment)) return;
      interruptedAt = performance.now();
      kill('SIGINT');
    });
    expect(performance.now() - interruptedAt).toBeLessThan(10_000);
    expect(stderr).toMatch(/drill: interrupted by SIGINT; everything that it had made is removed\n$/);
    expect({ exitCode, stdout, left }).toEqual({ exitCode: 130, stdout: '', left: [] });
  });
});
