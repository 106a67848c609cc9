import { describe, expect, it } from 'vitest';
import { abandoned, type DrillReport, renderReport } from '../../drill/report.ts';

const GOOD: DrillReport = {
  scenario: 'spot-interruption',
  seed: 1,
  engine: 'process',
  ok: true,
  outcome: 'The database moved',
  reasons: [],
  downtimeSeconds: 5.512,
  floorSeconds: 4.98,
  acknowledgedRows: 8721,
  lostRows: 0,
  steps: [
    { name: 'detach', startedAtSeconds: 35.1, seconds: 2.28 },
    { name: 'attach', startedAtSeconds: 37.8, seconds: 1.84 },
  ],
  notes: [],
  awsCalls: {},
  deniedCalls: [],
  unusedPermissions: [],
  orphans: [],
  promisesBroken: [],
};

describe('the report for people', () => {
  it('shows the steps, and ends with a line to quote that fits a terminal', () => {
    const lines = renderReport(GOOD).split('\n');
    expect(lines).toEqual([
      'spot-interruption, seed 1, real disks, the PostgreSQL of this machine',
      '   t+35.1 s  detach    2.28 s',
      '   t+37.8 s  attach    1.84 s',
      'Of the downtime, AWS, Linux and PostgreSQL took 5.0 s, Keeper 0.5 s.',
      'The database moved: 5.5 s without commits, 0 of 8,721 acknowledged rows lost.',
    ]);
    expect(lines.at(-1)?.length).toBeLessThan(80);
  });

  it('says in which the drill was not as it is in AWS', () => {
    const lines = renderReport({ ...GOOD, notes: ['AWS took a tenth of its time for snapshots.'] }).split('\n');
    expect(lines[3]).toBe('AWS took a tenth of its time for snapshots.');
  });

  it('ends with the reason when there is one', () => {
    const report = renderReport({ ...GOOD, ok: false, reasons: ['release on i-1 ended with exit code 13: busy'] });
    expect(report.split('\n').slice(-2)).toEqual([
      '5.5 s without commits, 0 of 8,721 acknowledged rows lost.',
      'NOT OK: release on i-1 ended with exit code 13: busy',
    ]);
  });

  it('lists everything that was wrong when there was more', () => {
    const bad = {
      ok: false,
      reasons: ['the data volume is full'],
      deniedCalls: ['move: ec2:DetachVolume'],
      orphans: ['i-2'],
    };
    const report = renderReport({ ...GOOD, ...bad, lostRows: null });
    expect(report.split('\n').slice(-8)).toEqual([
      '5.5 s without commits, an unknown number of 8,721 acknowledged rows lost.',
      'Why it failed:',
      '  the data volume is full',
      'Denied calls:',
      '  move: ec2:DetachVolume',
      'Orphans:',
      '  i-2',
      'NOT OK: the data volume is full',
    ]);
  });

  it('is two lines for a drill that could not begin', () => {
    const report = abandoned({ scenario: 'spot-interruption', seed: 7, engine: 'process' }, 'no room');
    expect(report).toMatchObject({ ok: false, reasons: ['no room'], lostRows: null });
    expect(renderReport(report).split('\n').slice(1)).toEqual(['NOT OK: no room']);
  });
});
