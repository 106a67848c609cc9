/**
 * The names of these errors are part of the workflows' interface: their Retry and Catch fields, and the people who read a
 * failed execution, go by them. Each message says what happened, to what, and what to do.
 */
abstract class KeeperError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** EC2 has none of the configured instance types, neither Spot nor on demand. */
export class NoCapacity extends KeeperError {}
/** The data volume is somewhere or in a state in which Keeper must not touch it. */
export class VolumeUnusable extends KeeperError {}
/** An event or a payload is not what its sender documents. */
export class MalformedInput extends KeeperError {}
/** AWS refused something that Keeper needs, for a reason that trying again does not mend. */
export class LaunchRefused extends KeeperError {}
