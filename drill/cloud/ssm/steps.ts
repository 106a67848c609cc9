/** One thing a command did, as its script says it. */
export interface CommandStep {
  readonly name: string;
  /** Seconds since the epoch. */
  readonly startedAtSeconds: number;
  readonly seconds: number;
}

const STEP_LINE = /^keeper-step (\S+) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)$/gm;

/** Reads the lines `keeper-step <name> <startEpochSeconds> <durationSeconds>` out of what a command printed. */
export function parseSteps(stdout: string): CommandStep[] {
  return [...stdout.matchAll(STEP_LINE)].map(([, name = '', startedAt, seconds]) => ({
    name,
    startedAtSeconds: Number(startedAt),
    seconds: Number(seconds),
  }));
}
