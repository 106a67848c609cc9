import type { Happening } from './cloud/kernel.ts';
import type { Host } from './hosts/host.ts';

/**
 * Finds what only the host itself knows: that Docker had to start the database again, that its volume is full, and what
 * PostgreSQL has logged that nobody wants to read. One line each.
 */
const SCRIPT = `#!/bin/bash
container=keeper-postgres
restarts=$(docker inspect -f '{{.RestartCount}}' "$container" 2>/dev/null) || exit 0
((restarts == 0)) || echo "PostgreSQL crashed or was killed, and Docker started it again (times: $restarts)"
if mountpoint -q /data && (($(df --output=avail --block-size=1M /data | tail -1) < 16)); then
  echo 'the data volume is full'
fi
docker logs "$container" 2>&1 |
  grep -E 'PANIC: |No space left on device|Input/output error|terminated by signal|was not properly shut down' |
  tail -1 | sed -E 's/^.*\\[[0-9]+\\] /PostgreSQL logs: /'
exit 0
`;

/** What is wrong with the database on a host, one sentence each. A host that has ended has nothing to say. */
export async function diagnose(host: Host): Promise<string[]> {
  try {
    const { stdout } = await host.run({ document: 'diagnosis', script: SCRIPT, environment: {}, timeoutSeconds: 5 });
    return stdout.split('\n').filter((line) => line !== '');
  } catch {
    return [];
  }
}

/** What failed on a host, in a sentence, if that is what happened. A verification that comes too early has not failed. */
export function failureOf({ kind, subject, detail }: Happening): string | undefined {
  if (kind === 'takeover' && detail['failure'] !== undefined) {
    return `the takeover on ${subject} failed: ${detail['failure']}`;
  }
  if (kind === 'output' && /^takeover: (?!.* waits for )/.test(String(detail['line']))) {
    return `${subject}: ${detail['line']}`;
  }
  if (kind === 'command' && detail['phase'] === 'ended' && detail['exitCode'] !== 0) {
    const command = String(detail['document']).replace(/^.*-/, '');
    if (command === 'verify') return undefined;
    return `${command} on ${detail['instanceId']} ended with exit code ${detail['exitCode']}: ${detail['stderr'] || 'it said nothing'}`;
  }
  return undefined;
}
