import type { ScheduleResult, Violation } from './run.ts';
import type { Workflow } from './schedule.ts';

/** What `npm run simulate -- --json` prints. Programs rely on these names. */
export interface SimulationReport {
  readonly schedules: number;
  readonly firstSeed: number;
  readonly violations: readonly Violation[];
  readonly schedulesPerSecond: number;
  /** How often each kind of fault was injected. */
  readonly faultsInjected: Readonly<Record<string, number>>;
  /** How many schedules ended in which way. */
  readonly outcomes: Readonly<Record<string, number>>;
}

export function summarise(results: readonly ScheduleResult[], firstSeed: number, seconds: number): SimulationReport {
  const faultsInjected: Record<string, number> = {};
  const outcomes: Record<string, number> = {};
  const bySeed = [...results].sort((a, b) => a.seed - b.seed);
  for (const result of bySeed) {
    outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1;
    for (const [fault, times] of Object.entries(result.faultsInjected)) {
      faultsInjected[fault] = (faultsInjected[fault] ?? 0) + times;
    }
  }
  return {
    schedules: results.length,
    firstSeed,
    violations: bySeed.flatMap(({ violations }) => violations),
    schedulesPerSecond: Math.round((results.length / seconds) * 10) / 10,
    faultsInjected: sorted(faultsInjected),
    outcomes: sorted(outcomes),
  };
}

/** The report for people. Its last line is the one to quote. */
export function renderReport(report: SimulationReport, workflow: Workflow): string {
  const { schedules, firstSeed, violations, schedulesPerSecond } = report;
  const list = (title: string, counts: Readonly<Record<string, number>>) => [
    `${title}:`,
    ...Object.entries(counts).map(([name, times]) => `  ${String(times).padStart(7)}  ${name}`),
  ];
  const count = `${schedules.toLocaleString('en')} ${schedules === 1 ? 'schedule' : 'schedules'}`;
  const seeds = new Set(violations.map(({ seed }) => seed));
  return [
    `${workflow}: schedules of seeds ${firstSeed} to ${firstSeed + schedules - 1}, ${schedulesPerSecond} a second`,
    ...list('Faults injected', report.faultsInjected),
    ...list('Outcomes', report.outcomes),
    ...violations.map(({ seed, promise, at, detail }) => `seed ${seed}, ${at} s: ${promise}: ${detail}`),
    seeds.size === 0
      ? `${count} of faults, every promise kept.`
      : `NOT OK: ${seeds.size} of ${count} broke a promise; npm run simulate -- --workflow ${workflow} --seed ${[...seeds][0]} --trace`,
  ].join('\n');
}

/** The most frequent first. */
function sorted(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}
