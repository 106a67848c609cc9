import { afterEach, describe, expect, inject, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { AwsError, type Faults, type Happening } from '../../drill/cloud/kernel.ts';
import type { DrillReport } from '../../drill/report.ts';
import { growVolume } from '../../drill/scenarios/grow-volume.ts';
import { hostLost } from '../../drill/scenarios/host-lost.ts';
import { play as playScenario } from '../../drill/scenarios/play.ts';
import { scaleUp } from '../../drill/scenarios/scale-up.ts';
import type { PlayOptions, Scenario } from '../../drill/scenarios/scenario.ts';
import { spotInterruption } from '../../drill/scenarios/spot-interruption.ts';
import { verifyBackup } from '../../drill/scenarios/verify-backup.ts';
import { openStage, type Stage, type StageOptions } from '../../drill/stage.ts';

const clock = new VirtualClock();
const stages: Stage[] = [];
afterEach(() => clock.run(Promise.all(stages.splice(0).map((stage) => stage.close()))));

interface Circumstances extends Pick<StageOptions, 'hostFaults'>, Partial<Pick<PlayOptions, 'sabotage' | 'signal'>> {
  /** What goes wrong from the moment on at which the first host serves. */
  readonly prepare?: (stage: Stage) => void;
}

/** Plays a scenario with modelled hosts. */
async function playWith(scenario: Scenario, circumstances: Circumstances = {}) {
  const { prepare, signal = new AbortController().signal, hostFaults, sabotage } = circumstances;
  const seen: Happening[] = [];
  const watcher = {
    say: () => {},
    begun: () => {},
    committed: () => {},
    happening: (happening: Happening) => void seen.push(happening),
  };
  const report = await clock.run(
    (async () => {
      const options = { assembly: inject('assembly'), database: 'lighthouse', seed: 1, signal, clock } as const;
      const stage = await openStage({ ...options, engine: 'modelled', ...(hostFaults && { hostFaults }) });
      stages.push(stage);
      prepare?.(stage);
      const playing = {
        seed: 1,
        engine: 'modelled',
        rate: 200,
        watcher,
        signal,
        ...(sabotage && { sabotage }),
      } as const;
      return playScenario(scenario, stage, playing);
    })(),
  );
  return { report, seen };
}

function failing(faults: Faults): (stage: Stage) => void {
  return ({ local }) => {
    local.cloud.faults = faults;
  };
}

describe('a drill of a Spot interruption', () => {
  const play = (prepare: (stage: Stage) => void = () => {}, signal = new AbortController().signal) =>
    playWith(spotInterruption, { prepare, signal });

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

describe('a drill of a lost host', () => {
  it('is ok when the database comes back on another host and nothing is lost, and says what took so long', async () => {
    const { report } = await playWith(hostLost);
    expect(report).toMatchObject({
      ok: true,
      reasons: [],
      outcome: 'The host was lost',
      lostRows: 0,
      orphans: [],
    });
    expect(report.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['detect', 'terminate', 'launch', 'boot', 'install-docker', 'pull-image', 'attach']),
    );
    const seconds = (name: string) => report.steps.find((step) => step.name === name)?.seconds ?? 0;
    const { downtimeSeconds, floorSeconds } = report;
    expect(seconds('launch') + seconds('boot') + seconds('pull-image')).toBeLessThan(floorSeconds);
    expect(downtimeSeconds - floorSeconds).toBeGreaterThan(seconds('detect'));
    expect(report.steps.find(({ name }) => name === 'terminate')?.startedAtSeconds).toBeLessThan(1);
  });

  it('fails when another host brings no database', async () => {
    const { report } = await playWith(hostLost, {
      hostFaults: (_, number) => (number === 0 ? [] : ['imagePullFails']),
    });
    expect(report.ok).toBe(false);
    expect(report.reasons).toEqual([
      expect.stringMatching(/^the takeover on i-\w+ failed: the image could not be pulled/),
    ]);
  });
});

describe('a drill of a scale-up', () => {
  const failsToStart: Circumstances = {
    hostFaults: (_, number) => (number === 0 ? [] : ['postgresDoesNotStart']),
    sabotage: 'new-host-fails',
  };

  it('is ok when the database is on the larger host and its file system has grown', async () => {
    const { report } = await playWith(scaleUp);
    expect(report).toMatchObject({ ok: true, reasons: [], outcome: 'Scaled up', lostRows: 0 });
    expect(report.downtimeSeconds - report.floorSeconds).toBeLessThan(2);
    expect(report.steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['detach', 'attach', 'start-database']),
    );
  });

  it('is ok when the new host fails on purpose and the database goes back to where it was', async () => {
    const { report, seen } = await playWith(scaleUp, failsToStart);
    expect(report).toMatchObject({ ok: true, reasons: [], lostRows: 0, orphans: [] });
    expect(report.outcome).toBe('The move went back');
    const attached = seen.filter(({ kind, detail }) => kind === 'volume-attachment' && detail['state'] === 'attached');
    expect(new Set(attached.map(({ detail }) => detail['instanceId'])).size).toBe(2);
  });

  it('fails when the new host fails and nobody has meant it to', async () => {
    const { report } = await playWith(scaleUp, { hostFaults: failsToStart.hostFaults });
    expect(report.ok).toBe(false);
    expect(report.reasons[0]).toMatch(/^the takeover on i-\w+ failed: PostgreSQL ended while starting/);
  });

  it('fails when a new host that was to fail does serve', async () => {
    const { report } = await playWith(scaleUp, { sabotage: 'new-host-fails' });
    expect(report).toMatchObject({ ok: false, reasons: ['the scale-up ended as SUCCEEDED'], lostRows: 0 });
  });

  it('fails with what AWS says when it cannot even begin', async () => {
    const refused = new AwsError('AccessDeniedException', 'no');
    const { report } = await playWith(scaleUp, {
      prepare: failing({
        onCall: ({ operation }) => (operation === 'StartExecution' ? { error: refused } : undefined),
      }),
    });
    expect(report).toMatchObject({ ok: false, reasons: ['scale-up cannot begin: AccessDeniedException: no'] });
  });
});

describe('a drill of a volume that grows', () => {
  it('is ok when the file system has grown under the running database', async () => {
    const { report, seen } = await playWith(growVolume);
    expect(report).toMatchObject({ ok: true, reasons: [], lostRows: 0, downtimeSeconds: 0 });
    expect(seen.some(({ kind }) => kind === 'volume-modification')).toBe(true);
    expect(seen.some(({ kind }) => kind === 'volume-attachment')).toBe(false);
  });

  it('fails when the file system has not grown', async () => {
    const { report } = await playWith(growVolume, {
      prepare: (stage) => Object.assign(stage, { inspect: async () => ({ fileSystemGiB: 20 }) }),
    });
    expect(report.reasons).toEqual(['the file system has grown by 0.0 GiB and not by 10']);
  });

  it('fails when a client notices', async () => {
    const { report } = await playWith(growVolume, {
      prepare: (stage) => {
        const connect = stage.connect.bind(stage);
        const gap = { from: clock.now() + 5_000, to: clock.now() + 6_500 };
        Object.assign(stage, {
          connect: async (rate: number) => {
            const writer = await connect(rate);
            return { ...writer, stop: async () => ({ ...(await writer.stop()), gaps: [gap] }) };
          },
        });
      },
    });
    expect(report.reasons).toEqual(['the client could not commit for 1.5 s']);
  });
});

describe('a drill of a backup', () => {
  it('is ok when it is proven to the row while clients write, and says what it took', async () => {
    const { report } = await playWith(verifyBackup);
    expect(report).toMatchObject({
      ok: true,
      reasons: [],
      outcome: 'The backup is proven',
      downtimeSeconds: 0,
      floorSeconds: 0,
      lostRows: 0,
      orphans: [],
    });
    expect(report.steps.map(({ name }) => name)).toEqual([
      'census',
      'snapshot',
      'launch scratch host',
      'boot scratch host',
      'install-docker, pull-image',
      'recovery',
      'checks',
      'Keep the evidence',
    ]);
    expect(report.notes).toEqual([expect.stringMatching(/^AWS took 0.1 of its time for ec2.snapshot \(median 60 s/)]);
  });

  it('is ok when what was damaged on purpose is found and named', async () => {
    const { report } = await playWith(verifyBackup, { sabotage: 'damaged-backup' });
    expect(report).toMatchObject({ ok: true, reasons: [], outcome: 'The damage was found', lostRows: 0 });
  });

  it('fails when what is damaged is proven', async () => {
    const { report } = await playWith(verifyBackup, {
      sabotage: 'damaged-backup',
      prepare: (stage) => Object.assign(stage, { damage: async () => {} }),
    });
    expect(report).toMatchObject({ ok: false, reasons: ['the backup ended as SUCCEEDED'] });
  });

  it('fails when a single row is missing that was acknowledged before, or there that was sent afterwards', async () => {
    const { report } = await playWith(verifyBackup, {
      prepare: (stage) => {
        const rowsIn = stage.rowsIn.bind(stage);
        const odd = async (snapshotId: string) => {
          const [first, ...others] = await rowsIn(snapshotId);
          return new Set([...others, (first ?? 0) + others.length + 400]);
        };
        Object.assign(stage, { rowsIn: odd });
      },
    });
    expect(report.reasons).toEqual([
      expect.stringMatching(/^1 of \d+ rows that were acknowledged before the snapshot are not in it$/),
      '1 rows that were sent after the snapshot are in it',
    ]);
  });
});
