import { describe, expect, inject, it } from 'vitest';
import type { Happening } from '../../drill/cloud/kernel.ts';
import { parseArguments } from '../../drill/simulate/arguments.ts';
import { renderReport, summarise } from '../../drill/simulate/report.ts';
import { runSchedule } from '../../drill/simulate/run.ts';
import { drawSchedule, WORKFLOWS, type Workflow } from '../../drill/simulate/schedule.ts';
import { planLines, Story } from '../../drill/simulate/trace.ts';
import { DATABASE_TAG, ROLE_TAG } from '../../functions/core/tags.ts';
import config from '../../keeper.config.ts';

function world(workflow: Workflow = 'relocate') {
  return {
    assembly: inject('assembly'),
    database: 'lighthouse',
    instanceTypes: config.databases['lighthouse']?.instanceTypes ?? [],
    workflow,
  };
}

describe('a schedule', () => {
  it('is drawn from its seed alone', () => {
    expect(drawSchedule(7)).toEqual(drawSchedule(7));
    expect(drawSchedule(7)).not.toEqual(drawSchedule(8));
  });

  it('ends: nothing new goes wrong once it is calm', () => {
    for (let seed = 0; seed < 500; seed++) {
      const { faults, calmAfter } = drawSchedule(seed);
      for (const fault of faults) {
        if ('at' in fault) expect(fault.at).toBeLessThan(calmAfter);
        if ('span' in fault) expect(fault.span.to).toBeLessThanOrEqual(calmAfter);
      }
    }
  });

  it('has each kind of fault now and then', () => {
    const kinds = new Set(
      Array.from({ length: 500 }, (_, seed) => drawSchedule(seed).faults.map(({ kind }) => kind)).flat(),
    );
    expect([...kinds].sort()).toEqual([
      'agent death',
      'errors',
      'events',
      'hang',
      'hardware failure',
      'host',
      'interruption',
      'kills',
      'latency',
      'no capacity',
      'recommendation',
      'runbook',
      'slow answers',
      'stop',
      'termination',
    ]);
  });

  it('goes the same way each time it is played', async () => {
    const story = async (): Promise<string[]> => {
      const lines: string[] = [];
      await runSchedule(13, world(), ({ clock, local }) => {
        const told = new Story(clock.now(), (line) => lines.push(line));
        local.cloud.onHappening((happening: Happening) => told.add(happening));
      });
      return lines;
    };
    const first = await story();
    expect(first.length).toBeGreaterThan(50);
    expect(await story()).toEqual(first);
  });

  it('in which something is left lying about is a broken promise', async () => {
    const { violations } = await runSchedule(1, world(), (simulation) => {
      const Tags = Object.entries({ [DATABASE_TAG]: 'lighthouse', [ROLE_TAG]: 'superseded' }).map(([Key, Value]) => {
        return { Key, Value };
      });
      simulation.asPerson('ec2', 'CreateVolume', {
        AvailabilityZone: 'us-east-1a',
        Size: 1,
        TagSpecifications: [{ ResourceType: 'volume', Tags }],
      });
    });
    expect(new Set(violations.map(({ promise }) => promise))).toEqual(new Set(['no orphans']));
  });
});

describe('all promises are kept', () => {
  const seeds = Array.from({ length: 6 }, (_, number) => 9_000 + number);
  it.each(WORKFLOWS.flatMap((workflow) => seeds.map((seed) => [workflow, seed] as const)))(
    'in the schedule of %s, seed %i',
    async (workflow, seed) => {
      expect((await runSchedule(seed, world(workflow))).violations).toEqual([]);
    },
  );
});

describe('the report', () => {
  const good = { seed: 2, violations: [], faultsInjected: { 'event lost': 2 }, outcome: 'relocated' };
  const violation = { seed: 1, promise: 'no orphans', at: 12.5, detail: 'i-1 (running) serves nothing' };
  const bad = { ...good, seed: 1, violations: [violation] };

  it('adds up what was injected and what came of it', () => {
    expect(summarise([good, bad], 1, 0.5)).toEqual({
      schedules: 2,
      firstSeed: 1,
      violations: [violation],
      schedulesPerSecond: 4,
      faultsInjected: { 'event lost': 4 },
      outcomes: { relocated: 2 },
    });
  });

  it('ends on a line to quote, or on how to replay the first failure', () => {
    const lastLine = (text: string) => text.split('\n').at(-1);
    expect(lastLine(renderReport(summarise([good], 2, 1), 'relocate'))).toBe(
      '1 schedule of faults, every promise kept.',
    );
    expect(lastLine(renderReport(summarise([good, bad], 1, 1), 'scale-up'))).toBe(
      'NOT OK: 1 of 2 schedules broke a promise; npm run simulate -- --workflow scale-up --seed 1 --trace',
    );
  });

  it('says beforehand what will go wrong', () => {
    expect(planLines(drawSchedule(13))[0]).toMatch(/^seed 13: \d+ faults, calm after \d+ s$/);
  });
});

describe('the arguments', () => {
  it('have defaults', () => {
    expect(parseArguments([])).toMatchObject({ schedules: 200, firstSeed: 1, json: false, trace: false });
    expect(parseArguments(['--seed', '42', '--trace'])).toMatchObject({ schedules: 1, firstSeed: 42, trace: true });
  });

  it.each([
    [['--schedules', '0'], '--schedules 0 is no whole number from 1; write for example --schedules 200'],
    [['--workflow', 'clone'], 'there is no workflow "clone"; write one of relocate, scale-up, patch, backup'],
    [['--trace'], '--trace tells of one schedule; write --seed S --trace'],
    [['--seed', '1', '--trace', '--json'], '--trace is text; leave --json out'],
    [['--seed', '1', '--schedules', '5'], '--seed is one schedule; leave --schedules and --first-seed out'],
  ])('%j are refused with one line that says what to write', (argv, message) => {
    expect(() => parseArguments(argv)).toThrow(message);
  });
});
