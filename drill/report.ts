import type { Part } from './story.ts';

/** What `npm run drill -- --json` prints. Programs rely on these names. */
export interface DrillReport {
  readonly scenario: string;
  readonly seed: number;
  /** `process` and `docker` have real disks and a real PostgreSQL; `modelled` has neither. */
  readonly engine: 'process' | 'docker' | 'modelled';
  readonly ok: boolean;
  /** Why it is not ok: one sentence each. */
  readonly reasons: readonly string[];
  /** The longest gap between two acknowledged commits. */
  readonly downtimeSeconds: number;
  /** What AWS, the operating system and PostgreSQL took of it. @see docs/adr/0008-what-counts-as-floor.md */
  readonly floorSeconds: number;
  readonly acknowledgedRows: number;
  readonly lostRows: number;
  /** Since the notice. */
  readonly steps: readonly { readonly name: string; readonly startedAtSeconds: number; readonly seconds: number }[];
  /** By `service:Operation`. */
  readonly awsCalls: Readonly<Record<string, number>>;
  readonly deniedCalls: readonly string[];
  /** What the roles allow and this run did not use; what only a failure needs is among it. */
  readonly unusedPermissions: readonly string[];
  readonly orphans: readonly string[];
  readonly promisesBroken: readonly string[];
}

/** @param start the notice, in milliseconds since the epoch */
export function stepsSince(parts: readonly Part[], start: number): DrillReport['steps'] {
  return parts
    .filter(({ to }) => to >= start)
    .map(({ name, from, to }) => ({
      name,
      startedAtSeconds: round((from - start) / 1000),
      seconds: round((to - from) / 1000),
    }));
}

/** To milliseconds. */
export function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** The report for people. Its last line is the one to quote. */
export function renderReport(report: DrillReport): string {
  const width = Math.max(...report.steps.map(({ name }) => name.length), 0);
  const steps = report.steps.map(({ name, startedAtSeconds, seconds }) => {
    const at = startedAtSeconds < 0 ? '' : `t+${startedAtSeconds.toFixed(1)}`;
    return `  ${at.padStart(7)} s  ${name.padEnd(width)}  ${seconds.toFixed(2).padStart(6)} s`;
  });
  const list = (title: string, items: readonly string[]) =>
    items.length === 0 ? [] : [`${title}:`, ...items.map((item) => `  ${item}`)];
  const ours = report.downtimeSeconds - report.floorSeconds;
  const figures = `${report.downtimeSeconds.toFixed(1)} s without commits (${report.floorSeconds.toFixed(1)} s of them AWS, Linux and PostgreSQL; ${ours.toFixed(1)} s ours), ${report.lostRows} of ${report.acknowledgedRows.toLocaleString('en')} acknowledged rows lost`;
  return [
    `${report.scenario}, seed ${report.seed}, ${describeEngine(report.engine)}`,
    ...steps,
    ...list('Denied calls', report.deniedCalls),
    ...list('Orphans', report.orphans),
    ...list('Promises broken', report.promisesBroken),
    ...list('Why it failed', report.reasons),
    report.ok ? `The database moved: ${figures}.` : `NOT OK: ${figures}.`,
  ].join('\n');
}

function describeEngine(engine: DrillReport['engine']): string {
  switch (engine) {
    case 'process':
      return 'real disks, the PostgreSQL of this machine';
    case 'docker':
      return 'real disks, PostgreSQL in Docker';
    case 'modelled':
      return 'modelled hosts';
  }
}
