import type { Host } from './hosts/host.ts';
import type { Stage } from './stage.ts';

/** What can be broken on purpose, to see that the drill notices. */
export const SABOTAGES = {
  'kill-postgres': 'PostgreSQL is killed with signal 9 while it serves',
  'full-disk': 'something else fills the data volume',
  'hanging-unmount': 'a process keeps the volume busy, so that it cannot be unmounted',
  'corrupt-takeover': "the new host's user data is cut off in the middle",
  'new-host-fails': 'PostgreSQL does not start on the new host (scale-up): then the drill is to see it go back',
  'damaged-backup':
    'random bytes get into a table of the snapshot (verify-backup): then the drill is to see the verification fail',
} as const;

export type Sabotage = keyof typeof SABOTAGES;

/** Scripts that run as root on the serving host. */
const ON_SOURCE: Partial<Record<Sabotage, string>> = {
  'kill-postgres': 'kill -9 $(grep -lsx postgres /proc/[0-9]*/comm | cut -d / -f 3)',
  'full-disk': `
    : >/data/filler
    for bytes in 1073741824 1048576 4096; do
      while fallocate --offset "$(stat -c %s /data/filler)" --length "$bytes" /data/filler 2>/dev/null; do :; done
    done`,
  'hanging-unmount': 'cd /data && setsid sleep 600 </dev/null >/dev/null 2>&1 &',
};

/** What becomes of the user data of each new host. */
const ON_NEW_HOST: Partial<Record<Sabotage, (userData: string) => string>> = {
  'corrupt-takeover': (userData) => userData.slice(0, userData.length / 2),
  // more than any machine has
  'new-host-fails': (userData) => userData.replace(/shared_buffers=\S+/, 'shared_buffers=8000GB'),
};

/** Seconds after the beginning: the source serves, the client writes, and the replacement is being armed. */
const AFTER_SECONDS = 5;

/** Breaks it, from now on. */
export function sabotage(how: Sabotage, stage: Stage, sourceId: string): void {
  const { cloud, ec2 } = stage.local;
  if (how === 'damaged-backup') {
    cloud.onHappening(({ kind, subject, detail }) => {
      if (kind !== 'snapshot' || detail['state'] !== 'pending') return;
      stage.damage(subject).catch((error: Error) => cloud.fail(error));
    });
    return;
  }
  const change = ON_NEW_HOST[how];
  if (change) {
    cloud.onHappening(({ kind, subject, detail }) => {
      if (kind !== 'instance-state' || detail['state'] !== 'running' || subject === sourceId) return;
      changeUserData(ec2.machine(subject)?.host, change);
    });
    return;
  }
  const script = `#!/bin/bash\n${ON_SOURCE[how]}`;
  cloud.clock.after(AFTER_SECONDS * 1000, () => {
    void ec2.machine(sourceId)?.host?.run({ document: 'sabotage', script, environment: {}, timeoutSeconds: 60 });
  });
}

function changeUserData(host: Host | undefined, change: (userData: string) => string): void {
  if (!host) return;
  const boot = host.boot.bind(host);
  host.boot = (userData) => boot(change(userData));
}
