/** What a workflow tells the functions of the database they work for. @see workflows/find-database.ts, which fills it in. */
export interface Database {
  readonly name: string;
  readonly volumeId: string;
  /** The floating private IPv4 address. */
  readonly address: string;
  readonly launchTemplateId: string;
  /** Of hosts that look at a clone. */
  readonly scratchTemplateId: string;
  /** A subnet in the volume's zone. */
  readonly subnetId: string;
  /** The volume's availability zone, e.g. `us-east-1a`. */
  readonly zone: string;
  /** As keeper.config.ts names them; what hosts are launched with is in their host spec (host-spec.ts). */
  readonly configuredTypes: readonly string[];
}
