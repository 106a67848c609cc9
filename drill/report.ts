import type { Part } from './story.ts';

/** What `npm run drill -- --json` prints. Programs rely on these names. */
export interface DrillReport {
  readonly scenario: string;
  readonly seed: number;
  /** `process` and `docker` have real disks and a real PostgreSQL; `modelled` has neither. */
  readonly engine: 'process' | 'docker' | 'modelled';
  readonly ok: boolean;
  /** What has come of it when it is ok, e.g. `The database moved`. */
  readonly outcome: string;
  /** Why it is not ok: one sentence each. */
  readonly reasons: readonly string[];
  /** The longest gap between two acknowledged commits. */
  readonly downtimeSeconds: number;
  /** What AWS, the operating system and PostgreSQL took of it. @see docs/adr/0008-what-counts-as-floor.md */
  readonly floorSeconds: number;
  readonly acknowledgedRows: number;
  /** Acknowledged, and not in the database; null when the database could not be read. */
  readonly lostRows: number | null;
  /** Since the beginning: the notice, the loss, the request. */
  readonly steps: readonly { readonly name: string; readonly startedAtSeconds: number; readonly seconds: number }[];
  /** In which this was not as it is in AWS: one sentence each. */
  readonly notes: readonly string[];
  /** By `service:Operation`. */
  readonly awsCalls: Readonly<Record<string, number>>;
  readonly deniedCalls: readonly string[];
  /** What the roles allow and this run did not use; what only a failure needs is among it. */
  readonly unusedPermissions: readonly string[];
  readonly orphans: readonly string[];
  readonly promisesBroken: readonly string[];
}

/** @param start the beginning, in milliseconds since the epoch */
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

/** The report of a drill that could not even begin. */
export function abandoned(what: Pick<DrillReport, 'scenario' | 'seed' | 'engine'>, reason: string): DrillReport {
  return {
    ...what,
    ok: false,
    outcome: '',
    reasons: [reason],
    downtimeSeconds: 0,
    floorSeconds: 0,
    acknowledgedRows: 0,
    lostRows: null,
    steps: [],
    notes: [],
    awsCalls: {},
    deniedCalls: [],
    unusedPermissions: [],
    orphans: [],
    promisesBroken: [],
  };
}

/** The report for people. Its last line is the one to quote. */
export function renderReport(report: DrillReport): string {
  const width = Math.max(...report.steps.map(({ name }) => name.length), 0);
  const steps = report.steps.map(({ name, startedAtSeconds, seconds }) => {
    const at = startedAtSeconds < 0 ? 'before' : `t+${startedAtSeconds.toFixed(1)} s`;
    return `${at.padStart(11)}  ${name.padEnd(width)}  ${seconds.toFixed(2).padStart(6)} s`;
  });
  const list = (title: string, items: readonly string[]) =>
    items.length === 0 ? [] : [`${title}:`, ...items.map((item) => `  ${item}`)];
  const { deniedCalls, orphans, promisesBroken, reasons } = report;
  const [first = '', ...more] = [...reasons, ...deniedCalls, ...orphans, ...promisesBroken];
  const failures = [
    ...list('Why it failed', reasons),
    ...list('Denied calls', deniedCalls),
    ...list('Orphans', orphans),
    ...list('Promises broken', promisesBroken),
  ];
  const { downtimeSeconds: downtime, floorSeconds: floor, acknowledgedRows } = report;
  const all = acknowledgedRows.toLocaleString('en');
  const lost = report.lostRows ?? 'an unknown number';
  const outcome = `${downtime.toFixed(1)} s without commits, ${lost} of ${all} acknowledged rows lost`;
  return [
    `${report.scenario}, seed ${report.seed}, ${describeEngine(report.engine)}`,
    ...steps,
    ...report.notes,
    ...(report.ok && downtime > 0
      ? [
          `Of the downtime, AWS, Linux and PostgreSQL took ${floor.toFixed(1)} s, Keeper ${(downtime - floor).toFixed(1)} s.`,
        ]
      : []),
    ...(report.ok || acknowledgedRows === 0 ? [] : [`${outcome}.`]),
    ...(more.length > 0 ? failures : []),
    report.ok ? `${report.outcome}: ${outcome}.` : `NOT OK: ${first}`,
  ].join('\n');
}

/** How a person would say it. */
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
