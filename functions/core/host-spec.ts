/**
 * What hosts of a database are made of. The parameters `/keeper/<database>/host/…` hold it: as configured at first, and from
 * then on as the last planned move has proven it.
 */
export interface HostSpec {
  /** In the order of preference for on-demand; Spot takes the pool that is least likely to be interrupted. */
  readonly instanceTypes: readonly string[];
  /** The container image of the database, pinned. */
  readonly image: string;
  /** The AMI; absent: that of the launch template. */
  readonly ami?: string;
}

/** AWS's public parameter with the id of the newest Amazon Linux 2023 for ARM. */
export const NEWEST_AMI_PARAMETER = '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64';
