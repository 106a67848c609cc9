import type { Happening } from './cloud/kernel.ts';
import type { Host } from './hosts/host.ts';

/**
 * Finds what only the host itself knows: that Docker had to start the database again, that its volume is full, and what
 * PostgreSQL has logged that nobody wants to read. One line each.
 */
const SCRIPT = `#!/bin/bash
container=keeper-postgres
complaints='PANIC: |No space left on device|Input/output error|terminated by signal'
[[ $AFTER_CRASH == true ]] || complaints+='|was not properly shut down'
restarts=$(docker inspect -f '{{.RestartCount}}' "$container" 2>/dev/null) || exit 0
((restarts == 0)) || echo "PostgreSQL crashed or was killed, and Docker started it again (times: $restarts)"
if mountpoint -q /data && (($(df --output=avail --block-size=1M /data | tail -1) < 16)); then
  echo 'the data volume is full'
fi
docker logs "$container" 2>&1 |
  grep -E "$complaints" |
  tail -1 | sed -E 's/^.*\\[[0-9]+\\] /PostgreSQL logs: /'
exit 0
`;

/**
 * What is wrong with the database on a host, one sentence each. A host that has ended has nothing to say.
 *
 * @param afterCrash its last host was lost, so a recovery is as it should be
 */
export async function diagnose(host: Host, { afterCrash }: { readonly afterCrash: boolean }): Promise<string[]> {
  const environment = { AFTER_CRASH: String(afterCrash) };
  try {
    const { stdout } = await host.run({ document: 'diagnosis', script: SCRIPT, environment, timeoutSeconds: 5 });
    return stdout.split('\n').filter((line) => line !== '');
  } catch {
    return [];
  }
}

/** What a host has and what PostgreSQL makes of it. */
export interface HostFacts {
  /** Of the file system on the data volume. */
  readonly fileSystemGiB: number;
  /** Modelled hosts have no memory. */
  readonly memoryMiB?: number;
  readonly sharedBuffersMiB?: number;
}

const INSPECTION = `#!/bin/bash
set -euo pipefail
read -r _ kilobytes _ </proc/meminfo
buffers=$(docker exec keeper-postgres psql -X -q -A -t -U postgres -d postgres \
  -c "SELECT pg_size_bytes(current_setting('shared_buffers'))")
echo "$(df --output=size --block-size=1 /data | tail -1) $((kilobytes * 1024)) $buffers"
`;

/** @throws Error when it is not a host that serves */
export async function inspect(host: Host): Promise<HostFacts> {
  const script = { document: 'inspection', script: INSPECTION, environment: {}, timeoutSeconds: 10 };
  const { exitCode, stdout, stderr } = await host.run(script);
  if (exitCode !== 0) throw new Error(`the serving host cannot be inspected: ${stderr}`);
  const [fileSystem = 0, memory = 0, sharedBuffers = 0] = stdout.trim().split(/\s+/).map(Number);
  return {
    fileSystemGiB: fileSystem / 2 ** 30,
    memoryMiB: memory / 2 ** 20,
    sharedBuffersMiB: sharedBuffers / 2 ** 20,
  };
}

const PAGE = `#!/bin/bash
set -euo pipefail
path=$(docker exec keeper-postgres psql -X -q -A -t -U postgres -d postgres -c "SELECT pg_relation_filepath('$TABLE')")
xfs_bmap "/data/pgdata/$path"
`;

/**
 * Where on its volume the first page of a table is.
 *
 * @returns in bytes, from the beginning of the volume
 * @throws Error when the host does not serve, or the table has no page on the disk
 */
export async function findPage(host: Host, table: string): Promise<number> {
  const script = { document: 'page', script: PAGE, environment: { TABLE: table }, timeoutSeconds: 10 };
  const { exitCode, stdout, stderr } = await host.run(script);
  // xfs_bmap(8): the first extent, in units of 512 bytes, e.g. `0: [0..127]: 192..319`
  const [, block] = /^\s*0: \[0\.\.\d+\]: (\d+)\.\./m.exec(stdout) ?? [];
  if (exitCode !== 0 || block === undefined)
    throw new Error(`${table} is not found on the volume: ${stderr || stdout}`);
  return Number(block) * 512;
}

/** What failed on a host, in a sentence, if that is what happened. A verification that comes too early has not failed. */
export function failureOf({ kind, subject, detail }: Happening): string | undefined {
  if (kind === 'takeover' && detail['failure'] !== undefined) {
    return `the takeover on ${subject} failed: ${detail['failure']}`;
  }
  if (kind === 'proof' && detail['failure'] !== undefined) {
    return `the verification on ${subject} could not be done: ${detail['failure']}`;
  }
  if (kind === 'output' && /^takeover: (?!.* (waits for|was released here) )/.test(String(detail['line']))) {
    return `${subject}: ${detail['line']}`;
  }
  if (kind === 'command' && detail['phase'] === 'ended' && detail['exitCode'] !== 0) {
    const command = String(detail['document']).replace(/^.*-/, '');
    if (command === 'verify') return undefined;
    return `${command} on ${detail['instanceId']} ended with exit code ${detail['exitCode']}: ${detail['stderr'] || 'it said nothing'}`;
  }
  return undefined;
}
