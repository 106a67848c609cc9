/**
 * The name of the relocation away from a host: all that is heard of one host is one execution. Step Functions keeps a
 * name for 90 days after its execution has closed, and EC2 does not give an instance id twice.
 */
export function relocationName(database: string, hostId: string): string {
  return `${database}-${hostId}`;
}

/** The name of a relocation that no host's loss named: one a minute at most. @param now milliseconds since the epoch */
export function recoveryName(database: string, now: number): string {
  return `${database}-recover-${minuteOf(now)}`;
}

/** The name of the relocation back to Spot: one a day (UTC). @param now milliseconds since the epoch */
export function returnToSpotName(database: string, now: number): string {
  return `${database}-spot-${new Date(now).toISOString().slice(0, 10)}`;
}

/** The name of the relocation onto the newest AMI: one a month (UTC). @param now milliseconds since the epoch */
export function monthlyPatchName(database: string, now: number): string {
  return `${database}-patch-${new Date(now).toISOString().slice(0, 7)}`;
}

/** The name of the nightly backup: one a day (UTC). @param now milliseconds since the epoch */
export function backupName(database: string, now: number): string {
  return `${database}-backup-${new Date(now).toISOString().slice(0, 10)}`;
}

/** The name of the nightly verification that the backup itself has not started. @param now milliseconds since the epoch */
export function verificationName(database: string, now: number): string {
  return `${database}-verify-${new Date(now).toISOString().slice(0, 10)}`;
}

function minuteOf(now: number): string {
  return new Date(now).toISOString().slice(0, 16).replace(':', '');
}

const NAME =
  /^(?<database>.+)-(i-[0-9a-f]+(-again)*|(recover|scale-up|patch)-\d{4}-\d\d-\d\dT\d{4}|(spot|backup|verify)-\d{4}-\d\d-\d\d|verify-snap-[0-9a-f]+|patch-\d{4}-\d\d)$/;

/** Whether a relocation of this name was one that nothing forced: its failure says nothing of the database. */
export function isPlanned(execution: string): boolean {
  return /-((scale-up|patch)-\d{4}-\d\d-\d\dT\d{4}|spot-\d{4}-\d\d-\d\d|patch-\d{4}-\d\d)$/.test(execution);
}

/** The database that an execution is named after; undefined when a person, or Step Functions, has made its name up. */
export function namesDatabase(execution: string): string | undefined {
  return NAME.exec(execution)?.groups?.['database'];
}

/** Whether an execution may concern the database: it is named after it, or a person started it under a name of their own. */
export function mayConcern(database: string, execution: string): boolean {
  const named = namesDatabase(execution);
  return named === undefined || named === database;
}
