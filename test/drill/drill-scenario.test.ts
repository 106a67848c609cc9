import { afterEach, describe, expect, inject, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import type { Faults, Happening } from '../../drill/cloud/kernel.ts';
import type { DrillReport } from '../../drill/report.ts';
import { spotInterruption } from '../../drill/scenarios/spot-interruption.ts';
import { openStage, type Stage } from '../../drill/stage.ts';

describe('a drill of a Spot interruption', () => {
  const clock = new VirtualClock();
  const stages: Stage[] = [];
  afterEach(() => clock.run(Promise.all(stages.splice(0).map((stage) => stage.close()))));

  /** With modelled hosts. @param prepare what goes wrong from the moment on at which the first host serves */
  async function play(prepare: (stage: Stage) => void = () => {}, signal = new AbortController().signal) {
    const seen: Happening[] = [];
    const watcher = {
      say: () => {},
      countdown: () => {},
      committed: () => {},
      happening: (happening: Happening) => void seen.push(happening),
    };
    const report = await clock.run(
      (async () => {
        const options = { assembly: inject('assembly'), database: 'lighthouse', seed: 1, signal, clock } as const;
        const stage = await openStage({ ...options, engine: 'modelled' });
        stages.push(stage);
        prepare(stage);
        return spotInterruption(stage, { seed: 1, engine: 'modelled', rate: 200, watcher, signal });
      })(),
    );
    return { report, seen };
  }

  function failing(faults: Faults): (stage: Stage) => void {
    return ({ local }) => {
      local.cloud.faults = faults;
    };
  }

  it('is ok when the database moves and nothing is lost, and says what it took', async () => {
    const { report, seen } = await play();
    expect(report).toMatchObject({ ok: true, reasons: [], lostRows: 0, orphans: [], deniedCalls: [] });
    expect(report.acknowledgedRows).toBeGreaterThan(5_000);
    expect(report.downtimeSeconds).toBeLessThan(15);
    expect(report.downtimeSeconds - report.floorSeconds).toBeLessThan(2);
    expect(report.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['detach', 'attach', 'start-database']),
    );
    expect(seen.some(({ kind }) => kind === 'spot-notice')).toBe(true);
  });

  it('fails early, with the reason, when a takeover fails', async () => {
    const { report } = await play(({ local: { cloud } }) => {
      cloud.onHappening(({ kind, subject, detail }) => {
        if (kind !== 'instance-state' || detail['state'] !== 'running') return;
        cloud.record('takeover', subject, { steps: [], failure: 'exit code 2, line 119: syntax error' });
      });
    });
    expect(report.ok).toBe(false);
    expect(report.reasons).toEqual([expect.stringMatching(/^the takeover on i-\w+ failed: exit code 2, line 119/)]);
    expect(report.lostRows).toBe(0);
    expect(report.steps.map(({ name }) => name)).not.toContain('attach');
  });

  it('fails when the client cannot commit although nobody has stopped the database', async () => {
    const lost: Faults = {
      onEvent: ({ 'detail-type': type }) => (type.startsWith('EC2 Spot') ? { delaysMs: [] } : undefined),
    };
    const { report } = await play(failing(lost));
    expect(report.ok).toBe(false);
    expect(report.reasons).toEqual(['the client cannot commit any more since t+120.0 s']);
  });

  it('fails when it outlasts its limit', async () => {
    const { report } = await play((stage) => {
      failing({ onEvent: () => ({ delaysMs: [] }) })(stage);
      stage.local.ec2.interrupt = () => {};
    });
    expect(report.reasons).toEqual(['the notice started no relocation']);
  });

  it('is left at once when it is interrupted', async () => {
    const interrupted = new AbortController();
    const playing = play(({ clock: { after } }) => {
      after.call(clock, 10_000, () => interrupted.abort(new Error('Ctrl-C')));
    }, interrupted.signal);
    await expect(playing).rejects.toThrow('Ctrl-C');
  });

  it('counts nothing as an orphan that a drill which ended early has left lying about', async () => {
    const { report }: { report: DrillReport } = await play(({ local: { cloud }, clock: { after } }) => {
      after.call(clock, 15_000, () => cloud.record('output', 'i-0', { line: 'takeover: something is odd' }));
    });
    expect(report).toMatchObject({ ok: false, reasons: ['i-0: takeover: something is odd'], orphans: [] });
    expect(report.promisesBroken).toEqual([]);
  });
});
