/*
 * The names of these errors are part of the workflows' interface: their Retry and Catch fields, and the people who read a
 * failed execution, go by them. They are written out because minifying renames classes. Each message says what happened,
 * to what, and what to do.
 */

/** EC2 has none of the configured instance types, neither Spot nor on demand. */
export class NoCapacity extends Error {
  override readonly name = 'NoCapacity';
}
/** The data volume is somewhere or in a state in which Keeper must not touch it. */
export class VolumeUnusable extends Error {
  override readonly name = 'VolumeUnusable';
}
/** An event or a payload is not what its sender documents. */
export class MalformedInput extends Error {
  override readonly name = 'MalformedInput';
}
/** AWS refused something that Keeper needs, for a reason that trying again does not mend. */
export class LaunchRefused extends Error {
  override readonly name = 'LaunchRefused';
}
/** What a runbook was asked for cannot be done, or not now; nothing has been changed. */
export class Refused extends Error {
  override readonly name = 'Refused';
}
