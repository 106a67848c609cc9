import type { HostIdentity, HostRuntime } from './hosts/host.ts';

/** Where the client of a drill writes. */
export const CLIENT_TABLE = 'drill.ledger';

/** Ids, addresses and names that EC2 gives to nobody. */
const EXAMINER = {
  instanceId: 'i-00000000000000000',
  interfaceId: 'eni-00000000000000000',
  privateIp: '198.51.100.20',
  macAddress: '02:00:00:00:00:20',
} as const;
const COPY_ID = 'vol-00000000000000000';
const TIMEOUT_SECONDS = 60;

/** Starts the database from the copy, as little of it as a question needs. Nobody waits for Docker on a host of the drill's own. */
const SCRIPT = `#!/bin/bash
set -euo pipefail
echo 0 >/run/drill/latency/install-docker
echo 0 >/run/drill/latency/pull-image
exec 3>&1 >&2
dnf install -y -q docker
systemctl enable --now --quiet docker
docker pull -q "$IMAGE"
mkdir /copy
mount -t xfs -o nouuid /dev/nvme1n1 /copy
docker create --name copy --network none --mount type=bind,source=/copy/pgdata,target=/var/lib/postgresql/data \
  "$IMAGE" postgres -c default_transaction_read_only=on -c autovacuum=off -c timescaledb.max_background_workers=0
docker start copy
until docker exec copy pg_isready -q -U postgres; do
  [[ $(docker inspect -f '{{.State.Status}}' copy) == running ]] || { docker logs --tail 5 copy; exit 1; }
  sleep 0.05
done
docker exec copy psql -X -q -A -t -U postgres -d postgres -c "SELECT number FROM $TABLE" >&3
`;

export interface Copy {
  readonly snapshotId: string;
  readonly sizeGiB: number;
  readonly image: string;
  /** A host of which the one that looks into the copy has type, zone and role. */
  readonly like: HostIdentity;
}

/**
 * Looks into a copy of a snapshot, on a host of which EC2 knows nothing.
 *
 * @returns the numbers of the client's rows
 * @throws Error when the database does not start from it, in the host's own words
 */
export async function readCopy(hosts: HostRuntime, copy: Copy): Promise<ReadonlySet<number>> {
  const { snapshotId, sizeGiB, image, like } = copy;
  const volume = { volumeId: COPY_ID, sizeGiB };
  await hosts.createVolume(volume, snapshotId);
  const host = await hosts.createHost({ ...like, ...EXAMINER });
  try {
    await host.attach(volume);
    const environment = { IMAGE: image, TABLE: CLIENT_TABLE };
    const { exitCode, stdout, stderr } = await host.run({
      document: 'examination',
      script: SCRIPT,
      environment,
      timeoutSeconds: TIMEOUT_SECONDS,
    });
    if (exitCode !== 0) throw new Error(`the copy of ${snapshotId} cannot be read: ${stderr.trim()}`);
    return new Set(stdout.split('\n').filter(Boolean).map(Number));
  } finally {
    await host.shutdown('hard');
    await hosts.deleteVolume(COPY_ID);
  }
}
