/** What a workflow tells the functions of the database they work for. @see workflows/relocate.ts, which fills it in. */
export interface Database {
  readonly name: string;
  readonly volumeId: string;
  /** The floating private IPv4 address. */
  readonly address: string;
  readonly launchTemplateId: string;
  /** A subnet in the volume's zone. */
  readonly subnetId: string;
  /** In the order of preference for on-demand; Spot takes the pool that is least likely to be interrupted. */
  readonly instanceTypes: readonly string[];
}
