/** A drill that is killed in the middle: a host that has a volume mounted, and a process that is told to stay. */
import { Stage } from '../commands/hosts.ts';

const stage = await Stage.open();
const volumeId = await stage.volume();
const host = await stage.host();
await host.host.attach({ volumeId, sizeGiB: 8 });
await host.run(
  'mkfs.xfs -q $DEVICE && mkdir -p /mnt && mount $DEVICE /mnt && (setsid sleep 987.654 >/dev/null 2>&1 &)',
  {
    ...host.device(volumeId),
  },
);
process.stdout.write(stage.directory);
