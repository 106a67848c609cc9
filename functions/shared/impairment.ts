import { DescribeInstanceStatusCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { type DatabaseState, holderOf } from '../core/state.ts';

/**
 * Asks EC2 for the status checks of the host that holds the volume, as EC2 itself and as the network see it.
 *
 * @returns the state, in which that host is `impaired` when one of its checks fails
 */
export async function withImpairment(ec2: EC2Client, state: DatabaseState): Promise<DatabaseState> {
  const holder = holderOf(state);
  // EC2 checks running instances only.
  if (holder?.state !== 'running') return state;
  const { InstanceStatuses } = await ec2.send(new DescribeInstanceStatusCommand({ InstanceIds: [holder.id] }));
  const status = InstanceStatuses?.[0];
  const fails = [status?.InstanceStatus, status?.SystemStatus].some((each) => each?.Status === 'impaired');
  if (!fails) return state;
  return { ...state, hosts: state.hosts.map((host) => (host === holder ? { ...host, impaired: true } : host)) };
}
