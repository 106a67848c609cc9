/**
 * The name of the relocation away from a host: all that is heard of one host is one execution. Step Functions keeps a
 * name for 90 days after its execution has closed, and EC2 does not give an instance id twice.
 */
export function relocationName(database: string, hostId: string): string {
  return `${database}-${hostId}`;
}

/** The name of a relocation that no host's loss named: one a minute at most. @param now milliseconds since the epoch */
export function recoveryName(database: string, now: number): string {
  const minute = new Date(now).toISOString().slice(0, 16).replace(':', '');
  return `${database}-recover-${minute}`;
}

const NAME = /^(?<database>.+)-(i-[0-9a-f]+(-again)*|recover-[\dT-]+)$/;

/** Whether an execution may concern the database: it is named after it, or a person started it under a name of their own. */
export function mayConcern(database: string, execution: string): boolean {
  const named = NAME.exec(execution)?.groups?.['database'];
  return named === undefined || named === database;
}
