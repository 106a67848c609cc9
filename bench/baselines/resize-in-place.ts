import type { Operator } from './operator.ts';

/** The EC2 waiters of botocore, and so `aws ec2 wait`: a look every 15 s. @see botocore/data/ec2/2016-11-15/waiters-2.json */
export const CLI_WAITER_SECONDS = 15;

/**
 * The manual runbook "Scale Up Database", typed by nobody: a script without a human's pauses. Snapshot, stop, another
 * type, start; the address stays. `docker stop` is what the operating system does first when it shuts down, so that the
 * script need not wait for a command of its own; the container starts with the host.
 *
 * @param pollSeconds how often it looks whether AWS has done what it was asked for
 */
export async function resizeInPlace(
  operator: Operator,
  instanceId: string,
  instanceType: string,
  pollSeconds: number,
): Promise<void> {
  operator.keepsWhatIsInstalled(instanceId);
  const VolumeId = await operator.parameter('volume-id');
  const { SnapshotId } = await operator.call('ec2', 'CreateSnapshot', { VolumeId });
  const isTaken = async () => {
    const Filters = [{ Name: 'snapshot-id', Values: [SnapshotId] }]; // an id of its own may be unknown for a moment
    const { Snapshots } = await operator.call('ec2', 'DescribeSnapshots', { Filters });
    return Snapshots[0]?.State === 'completed';
  };
  const is = (state: string) => async () => (await operator.instance(instanceId)).State.Name === state;
  await operator.waitUntil(isTaken, pollSeconds);
  await operator.call('ec2', 'StopInstances', { InstanceIds: [instanceId] });
  await operator.waitUntil(is('stopped'), pollSeconds);
  await operator.call('ec2', 'ModifyInstanceAttribute', {
    InstanceId: instanceId,
    InstanceType: { Value: instanceType },
  });
  await operator.call('ec2', 'StartInstances', { InstanceIds: [instanceId] });
  await operator.waitUntil(is('running'), pollSeconds);
}
