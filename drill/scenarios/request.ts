import { asPerson } from './person.ts';
import type { Scene, Verdict } from './scenario.ts';

/** XFS shows a little less than its volume has, and grows by all that the volume does. */
const ROUNDING_GIB = 0.1;

/**
 * A person starts the runbook "Scale Up Database".
 *
 * @param moreGiB how much larger the volume shall become
 * @returns what is to be asked of volume and file system in the end
 * @throws AwsError when it does not start
 */
export async function requestScaleUp(
  { stage, source, watcher }: Scene,
  { instanceType, moreGiB }: { readonly instanceType?: string; readonly moreGiB: number },
): Promise<Verdict> {
  const { local, database } = stage;
  const before = await stage.inspect(source);
  const volumeGiB = (await volumeSize()) + moreGiB;
  const input = JSON.stringify({ database, ...(instanceType && { instanceType }), volumeGiB });
  watcher.say(`a person starts keeper-scale-up with ${input}`);
  const stateMachineArn = local.cloud.arn('states', 'stateMachine:keeper-scale-up');
  await asPerson(stage, 'states', 'StartExecution', { stateMachineArn, name: 'drill', input });

  return async ({ holder }) => {
    const size = await volumeSize();
    const { fileSystemGiB } = await stage.inspect(holder);
    const grownBy = fileSystemGiB - before.fileSystemGiB;
    return [
      ...(size === volumeGiB ? [] : [`the volume has ${size} GiB and not ${volumeGiB}`]),
      ...(grownBy > moreGiB - ROUNDING_GIB
        ? []
        : [`the file system has grown by ${grownBy.toFixed(1)} GiB and not by ${moreGiB}`]),
    ];
  };

  async function volumeSize(): Promise<number> {
    const VolumeIds = [stage.watch.liveVolume()?.volumeId];
    const { Volumes } = await asPerson(stage, 'ec2', 'DescribeVolumes', { VolumeIds });
    return Volumes[0].Size;
  }
}
