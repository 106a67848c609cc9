import { describe, expect, it } from 'vitest';
import {
  type ChangePlan,
  type InstanceTypeFacts,
  type PreflightFacts,
  preflight,
  type Runbook,
  type RunningExecution,
} from '../../../functions/core/preflight.ts';
import type { HostState, VolumeState } from '../../../functions/core/state.ts';
import { databaseState, NOW, SOURCE, source, volume } from './build.ts';

const HOUR = 3_600_000;
const MINUTE = 60_000;
const AMI = 'ami-0000000000000000a';
const NEW_AMI = 'ami-0000000000000000b';
const IMAGE = 'timescale/timescaledb:2.19.3-pg16';
const OLDER_IMAGE = 'timescale/timescaledb:2.17.2-pg16';
const NEWER_IMAGE = 'timescale/timescaledb:2.20.0-pg16';

function arm(memoryMiB: number, overrides: Partial<InstanceTypeFacts> = {}): InstanceTypeFacts {
  return { architecture: 'arm64', memoryMiB, offered: true, ...overrides };
}

const TYPES: [string, InstanceTypeFacts][] = [
  ['t4g.nano', arm(512)],
  ['t4g.micro', arm(1024)],
  ['t4g.small', arm(2048)],
  ['t4g.medium', arm(4096)],
  ['m7g.medium', arm(4096)],
  ['m8g.medium', arm(4096, { offered: false })],
  ['r7g.medium', arm(8192)],
  ['a1.medium', arm(2048)],
  ['t3.medium', arm(4096, { architecture: 'x86_64' })],
  ['t2.medium', arm(4096, { architecture: 'i386/x86_64' })],
];

/** The serving t4g.small with 20 GiB, and nothing in the way. */
function facts(overrides: Partial<PreflightFacts> = {}): PreflightFacts {
  return {
    database: 'lighthouse',
    zone: 'us-east-1a',
    state: databaseState(),
    types: new Map(TYPES),
    recorded: { instanceTypes: ['t4g.small', 't4g.medium'], image: IMAGE },
    configuredTypes: ['t4g.small', 't4g.medium', 'm7g.medium', 'm8g.medium', 'r7g.medium', 't3.medium'],
    newestAmi: AMI,
    running: [],
    own: runbook('b', NOW),
    ...overrides,
  };
}

function on(host: Partial<HostState>, data: Partial<VolumeState> = {}): Partial<PreflightFacts> {
  const attachment = { hostId: SOURCE, state: 'attached' } as const;
  return { state: { volume: volume(attachment, data), hosts: [source(host)] } };
}

function runbook(name: string, startedAt: number, machine = 'keeper-scale-up'): RunningExecution {
  return { machine, name, startedAt };
}

function iso(...instants: number[]): string {
  return instants.map((each) => new Date(each).toISOString()).join(' ');
}

function refusals(which: Runbook, request: unknown, overrides: Partial<PreflightFacts> = {}): readonly string[] {
  const result = preflight(which, request, facts(overrides), NOW);
  return 'refusals' in result ? result.refusals : [];
}

function planned(which: Runbook, request: object, overrides: Partial<PreflightFacts> = {}): ChangePlan {
  const result = preflight(which, request, facts(overrides), NOW);
  if ('refusals' in result) throw new Error(result.refusals.join('\n'));
  return result.plan;
}

describe('a scale-up', () => {
  it('to a larger type moves to that type only, and records what can stand in for it', () => {
    expect(planned('scale-up', { instanceType: 't4g.medium' })).toEqual({
      host: { instanceTypes: ['t4g.medium'] },
      record: { instanceTypes: ['t4g.medium', 'm7g.medium', 'r7g.medium'] },
      waitForSnapshot: false,
      updateExtension: false,
      summary: 'lighthouse: from t4g.small to t4g.medium',
    });
  });

  it('to a smaller type records all that have as much memory, each once', () => {
    const configuredTypes = ['r7g.medium', 't4g.nano', 't4g.small', 't4g.micro', 't4g.small'];
    expect(planned('scale-up', { instanceType: 't4g.micro' }, { configuredTypes })).toMatchObject({
      host: { instanceTypes: ['t4g.micro'] },
      record: { instanceTypes: ['t4g.micro', 'r7g.medium', 't4g.small'] },
    });
  });

  it('to a type that nothing can stand in for records that type alone', () => {
    const types = new Map<string, InstanceTypeFacts>([...TYPES, ['r7g.large', arm(16_384)]]);
    expect(planned('scale-up', { instanceType: 'r7g.large' }, { types }).record).toEqual({
      instanceTypes: ['r7g.large'],
    });
  });

  it('to a larger volume grows it, notes when, and does not move the database', () => {
    expect(planned('scale-up', { volumeGiB: 100 })).toEqual({
      growToGiB: 100,
      modifiedAt: '2026-01-05T12:00:00.000Z',
      waitForSnapshot: false,
      updateExtension: false,
      summary: 'lighthouse: from 20 to 100 GiB',
    });
  });

  it('does both', () => {
    expect(planned('scale-up', { instanceType: 't4g.medium', volumeGiB: 65_536 })).toMatchObject({
      growToGiB: 65_536,
      host: { instanceTypes: ['t4g.medium'] },
      summary: 'lighthouse: from t4g.small to t4g.medium, from 20 to 65536 GiB',
    });
  });

  it('grows alone when the type is the present one', () => {
    const grow = planned('scale-up', { instanceType: 't4g.small', volumeGiB: 100 });
    expect(grow).toMatchObject({ growToGiB: 100, summary: 'lighthouse: from 20 to 100 GiB' });
    expect(grow).not.toHaveProperty('host');
  });

  it('to the size that the volume has grows the file system, which an earlier attempt may have left smaller', () => {
    const fileSystem = {
      growToGiB: 20,
      waitForSnapshot: false,
      updateExtension: false,
      summary: 'lighthouse: the file system to 20 GiB',
    };
    expect(planned('scale-up', { volumeGiB: 20 })).toEqual(fileSystem);
    expect(planned('scale-up', { instanceType: 't4g.small', volumeGiB: 20 })).toEqual(fileSystem);
    expect(planned('scale-up', { instanceType: 't4g.medium', volumeGiB: 20 })).toEqual({
      ...fileSystem,
      host: { instanceTypes: ['t4g.medium'] },
      record: { instanceTypes: ['t4g.medium', 'm7g.medium', 'r7g.medium'] },
      summary: 'lighthouse: from t4g.small to t4g.medium, the file system to 20 GiB',
    });
  });

  it('that would start another image than the host runs is refused, and growing, which starts none, is not', () => {
    const drifted = on({ image: OLDER_IMAGE });
    const sentence = `lighthouse runs ${OLDER_IMAGE}, and ${IMAGE} is what its next host would start; start keeper-patch first, which takes a snapshot and goes back when it does not serve`;
    expect(refusals('scale-up', { instanceType: 't4g.medium' }, drifted)).toEqual([sentence]);
    expect(refusals('scale-up', { instanceType: 't4g.medium', volumeGiB: 100 }, drifted)).toEqual([sentence]);
    expect(refusals('scale-up', { instanceType: 't4g.small', volumeGiB: 100 }, drifted)).toEqual([]);
    expect(refusals('scale-up', { instanceType: 't4g.medium' }, on({ image: IMAGE }))).toEqual([]);
  });

  it('to the type that only stands in at present makes it the first', () => {
    const standIn = on({ instanceType: 't4g.medium' });
    expect(planned('scale-up', { instanceType: 't4g.medium' }, standIn).host).toEqual({
      instanceTypes: ['t4g.medium'],
    });
    expect(planned('scale-up', { instanceType: 't4g.small' }, standIn).host).toEqual({ instanceTypes: ['t4g.small'] });
  });

  it('may name the database, which was read before', () => {
    expect(planned('scale-up', { database: 'lighthouse', volumeGiB: 30 }).growToGiB).toBe(30);
  });

  it.each<[string, unknown, string[]]>([
    [
      'what is no object',
      't4g.medium',
      ['the input is no object; write for example { "instanceType": "t4g.medium", "volumeGiB": 100 }'],
    ],
    [
      'a list',
      ['t4g.medium'],
      ['the input is no object; write for example { "instanceType": "t4g.medium", "volumeGiB": 100 }'],
    ],
    [
      'neither type nor size',
      { database: 'lighthouse' },
      [
        'neither instanceType nor volumeGiB is given; write for example { "instanceType": "t4g.medium", "volumeGiB": 100 }',
      ],
    ],
    [
      'a field that it does not have',
      { volumeGiB: 100, image: 'postgres:16.4' },
      ['image: is no field of scale-up; write instanceType or volumeGiB'],
    ],
    [
      'a field that every object has',
      { instanceType: 'constructor' },
      ['instanceType: EC2 has no type "constructor" in us-east-1; write for example t4g.medium'],
    ],
    ['a number for a type', { instanceType: 4 }, ['instanceType: 4 is no instance type; write for example t4g.medium']],
    [
      'nothing for a type',
      { instanceType: null },
      ['instanceType: null is no instance type; write for example t4g.medium'],
    ],
    [
      'a type that does not exist',
      { instanceType: 't4g.huge' },
      ['instanceType: EC2 has no type "t4g.huge" in us-east-1; write for example t4g.medium'],
    ],
    [
      'a type that the zone does not have',
      { instanceType: 'm8g.medium' },
      [
        'instanceType: m8g.medium is not offered in us-east-1a, where the volume of lighthouse is; write one that `aws ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=location,Values=us-east-1a` names',
      ],
    ],
    [
      'another architecture',
      { instanceType: 't3.medium' },
      ['instanceType: t3.medium is x86_64, and lighthouse runs on ARM (arm64); write for example t4g.medium'],
    ],
    [
      'two other architectures',
      { instanceType: 't2.medium' },
      ['instanceType: t2.medium is i386/x86_64, and lighthouse runs on ARM (arm64); write for example t4g.medium'],
    ],
    [
      'the first Graviton',
      { instanceType: 'a1.medium' },
      [
        'instanceType: a1.medium is the first Graviton, which is too old for Amazon Linux 2023; write for example t4g.medium',
      ],
    ],
    [
      'too little memory',
      { instanceType: 't4g.nano' },
      [
        'instanceType: t4g.nano has 512 MiB of memory, and the settings of PostgreSQL need 590; write t4g.micro or a larger one',
      ],
    ],
    [
      'a smaller volume',
      { volumeGiB: 19 },
      ['volumeGiB: the volume of lighthouse has 20 GiB and cannot shrink to 19; write a larger size or leave it out'],
    ],
    [
      'text for a size',
      { volumeGiB: '100' },
      ['volumeGiB: "100" is not a whole number from 1 to 65536; write for example 100'],
    ],
    [
      'half a GiB',
      { volumeGiB: 20.5 },
      ['volumeGiB: 20.5 is not a whole number from 1 to 65536; write for example 100'],
    ],
    ['no GiB', { volumeGiB: 0 }, ['volumeGiB: 0 is not a whole number from 1 to 65536; write for example 100']],
    [
      'more than gp3 has',
      { volumeGiB: 65_537 },
      ['volumeGiB: 65537 is not a whole number from 1 to 65536; write for example 100'],
    ],
    [
      'what it has already',
      { instanceType: 't4g.small' },
      [
        'nothing would change: lighthouse is on t4g.small with 20 GiB; write another instanceType or a larger volumeGiB',
      ],
    ],
    [
      'several things that are wrong, with all of them',
      { instancetype: 't4g.medium', instanceType: 't4g.nano', volumeGiB: 10 },
      [
        'instancetype: is no field of scale-up; write instanceType or volumeGiB',
        'instanceType: t4g.nano has 512 MiB of memory, and the settings of PostgreSQL need 590; write t4g.micro or a larger one',
        'volumeGiB: the volume of lighthouse has 20 GiB and cannot shrink to 10; write a larger size or leave it out',
      ],
    ],
  ])('refuses %s', (_, request, expected) => {
    expect(refusals('scale-up', request)).toEqual(expected);
  });
});

describe('modifications of the volume', () => {
  const grow = { volumeGiB: 100 };
  const fourth = `volumeGiB: vol-1 was modified four times within 24 hours, and EC2 allows no more; try again after`;

  it.each(['modifying', 'optimizing'])('wait for the last one while it is %s', (state) => {
    const modification = { state, progress: 42, startedAt: NOW - HOUR };
    expect(refusals('scale-up', grow, { modification })).toEqual([
      `volumeGiB: the last modification of vol-1 is still ${state} (42 %), and EC2 takes the next one only after it; try again when it has completed`,
    ]);
    // Neither a move nor its file system modifies the volume.
    expect(refusals('scale-up', { instanceType: 't4g.medium', volumeGiB: 20 }, { modification })).toEqual([]);
    expect(refusals('scale-up', { volumeGiB: 20 }, { modification })).toEqual([]);
  });

  it.each(['completed', 'failed'])('may follow one that has %s', (state) => {
    expect(refusals('scale-up', grow, { modification: { state, progress: 100, startedAt: NOW - HOUR } })).toEqual([]);
  });

  it('are four in 24 hours at most', () => {
    const modifiedAt = iso(NOW - 23 * HOUR, NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - HOUR);
    expect(refusals('scale-up', grow, on({}, { modifiedAt }))).toEqual([`${fourth} 2026-01-05T13:00:00.000Z`]);
    expect(refusals('scale-up', { instanceType: 't4g.medium' }, on({}, { modifiedAt }))).toEqual([]);
    expect(refusals('scale-up', { volumeGiB: 20 }, on({}, { modifiedAt }))).toEqual([]);
  });

  it('may go on when the first of the last four is a day ago', () => {
    const times = [NOW - 24 * HOUR, NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - HOUR];
    const plan = planned('scale-up', grow, on({}, { modifiedAt: iso(...times) }));
    expect(plan.modifiedAt).toBe(iso(...times.slice(1), NOW));
  });

  it('count when a person made them without Keeper, and only once when Keeper did', () => {
    const modifiedAt = iso(NOW - 23 * HOUR, NOW - 3 * HOUR, NOW - 2 * HOUR);
    const at = (startedAt: number) => ({ modification: { state: 'completed', progress: 100, startedAt } });
    const own = { ...on({}, { modifiedAt }), ...at(NOW - 2 * HOUR + 5 * MINUTE) };
    expect(refusals('scale-up', grow, own)).toEqual([]);
    const persons = { ...on({}, { modifiedAt }), ...at(NOW - HOUR) };
    expect(refusals('scale-up', grow, persons)).toEqual([`${fourth} 2026-01-05T13:00:00.000Z`]);
  });

  it('do not count when the tag holds something else', () => {
    expect(planned('scale-up', grow, on({}, { modifiedAt: '1 2 3 yesterday' })).modifiedAt).toBe(iso(NOW));
  });
});

describe('a patch', () => {
  it('moves onto the newest AMI, and nothing else needs to be said', () => {
    expect(planned('patch', {}, { newestAmi: NEW_AMI })).toEqual({
      host: { ami: NEW_AMI },
      record: { ami: NEW_AMI },
      waitForSnapshot: false,
      updateExtension: false,
      summary: `lighthouse: from ${AMI} to ${NEW_AMI}`,
    });
  });

  it('moves onto the AMI that is named', () => {
    const ami = 'ami-0000000c';
    expect(planned('patch', { ami }, { newestAmi: NEW_AMI }).host).toEqual({ ami });
  });

  it('moves onto another image when the snapshot is complete, and leaves the AMI as it is', () => {
    const image = NEWER_IMAGE;
    expect(planned('patch', { image, updateExtension: true }, { newestAmi: NEW_AMI })).toEqual({
      host: { image },
      record: { image },
      waitForSnapshot: true,
      updateExtension: true,
      summary: `lighthouse: from ${IMAGE} to ${image}, ALTER EXTENSION timescaledb UPDATE`,
    });
  });

  it('updates the extension where it is, when the snapshot is complete', () => {
    for (const request of [{ updateExtension: true }, { image: IMAGE, updateExtension: true }]) {
      expect(planned('patch', request, { newestAmi: NEW_AMI })).toEqual({
        waitForSnapshot: true,
        updateExtension: true,
        summary: 'lighthouse: ALTER EXTENSION timescaledb UPDATE',
      });
    }
    // No other host is launched, whatever is recorded for one.
    expect(planned('patch', { updateExtension: true }, on({ image: OLDER_IMAGE }))).not.toHaveProperty('host');
  });

  it('changes the AMI together with something else only when that is asked for', () => {
    const request = { ami: NEW_AMI, image: NEWER_IMAGE };
    expect(planned('patch', request)).toMatchObject({ host: request, record: request, waitForSnapshot: true });
    expect(planned('patch', { ami: NEW_AMI, updateExtension: true })).toMatchObject({ host: { ami: NEW_AMI } });
    const nothing = { updateExtension: false };
    expect(planned('patch', nothing, { newestAmi: NEW_AMI })).toMatchObject({ host: { ami: NEW_AMI } });
  });

  it.each<[string, object, object, string]>([
    ['is recorded', {}, { ami: AMI, image: IMAGE }, `from ${OLDER_IMAGE} to ${IMAGE}`],
    ['is asked for and recorded', { image: IMAGE }, { image: IMAGE }, `from ${OLDER_IMAGE} to ${IMAGE}`],
    ['is asked for', { image: NEWER_IMAGE }, { image: NEWER_IMAGE }, `from ${OLDER_IMAGE} to ${NEWER_IMAGE}`],
    [
      'is recorded, while the AMI is asked for',
      { ami: NEW_AMI },
      { ami: NEW_AMI, image: IMAGE },
      `from ${AMI} to ${NEW_AMI}, from ${OLDER_IMAGE} to ${IMAGE}`,
    ],
  ])('waits for the snapshot when another image than the host runs %s', (_, request, host, change) => {
    expect(planned('patch', request, on({ image: OLDER_IMAGE }))).toEqual({
      host,
      record: host,
      waitForSnapshot: true,
      updateExtension: false,
      summary: `lighthouse: ${change}`,
    });
  });

  it('can keep the image that the host runs, when another one is recorded', () => {
    const request = { ami: NEW_AMI, image: OLDER_IMAGE };
    expect(planned('patch', request, on({ image: OLDER_IMAGE }))).toEqual({
      host: request,
      record: request,
      waitForSnapshot: false,
      updateExtension: false,
      summary: `lighthouse: from ${AMI} to ${NEW_AMI}`,
    });
  });

  it.each<[string, object, string, string]>([
    [
      'an older TimescaleDB than the host runs, when it is recorded',
      {},
      NEWER_IMAGE,
      `image: ${IMAGE} has TimescaleDB 2.19.3, and lighthouse has had 2.20.0: an older one cannot open its data; write 2.20.0 or a later one`,
    ],
    [
      'an older TimescaleDB than the host runs, when it is asked for',
      { image: IMAGE },
      NEWER_IMAGE,
      `image: ${IMAGE} has TimescaleDB 2.19.3, and lighthouse has had 2.20.0: an older one cannot open its data; write 2.20.0 or a later one`,
    ],
    [
      'another PostgreSQL than the host runs, when it is recorded',
      { ami: NEW_AMI },
      'postgres:15.8',
      `image: ${IMAGE} is PostgreSQL 16, and the data of lighthouse are of PostgreSQL 15: another major version needs pg_upgrade, which Keeper does not do; write an image of PostgreSQL 15`,
    ],
    [
      'the image that the host runs',
      { image: NEWER_IMAGE },
      NEWER_IMAGE,
      `nothing would change: lighthouse is on ${AMI} with ${NEWER_IMAGE}; write another image, or { "updateExtension": true } to update the extension alone`,
    ],
  ])('refuses %s', (_, request, image, sentence) => {
    expect(refusals('patch', request, on({ image }))).toEqual([sentence]);
  });

  it.each([
    ['of the same version with a digest', `${IMAGE}@sha256:${'0'.repeat(64)}`],
    ['whose name tells no version', 'our/database:7'],
    ['of a later TimescaleDB', 'timescale/timescaledb:2.19.10-pg16'],
    ['whose TimescaleDB is written shorter', 'timescale/timescaledb-ha:pg16-ts2.20'],
  ])('takes an image %s', (_, image) => {
    expect(planned('patch', { image }).host).toEqual({ image });
  });

  it.each<[string, unknown, string[]]>([
    [
      'what is no object',
      null,
      ['the input is no object; write for example { "image": "timescale/timescaledb:2.19.3-pg16" }'],
    ],
    [
      'a field that it does not have',
      { volumeGiB: 100, updateExtension: true },
      ['volumeGiB: is no field of patch; write ami, image or updateExtension'],
    ],
    [
      'what is no AMI',
      { ami: 'ami-newest' },
      [
        'ami: "ami-newest" is no AMI; write for example ami-0123456789abcdef0, or leave it out for the newest Amazon Linux 2023',
      ],
    ],
    [
      'a number for an AMI',
      { ami: 7 },
      ['ami: 7 is no AMI; write for example ami-0123456789abcdef0, or leave it out for the newest Amazon Linux 2023'],
    ],
    [
      'an image without a tag',
      { image: 'timescale/timescaledb' },
      [
        'image: "timescale/timescaledb" has no tag or is no image name; write for example timescale/timescaledb:2.19.3-pg16',
      ],
    ],
    [
      'a number for an image',
      { image: 16 },
      ['image: "16" has no tag or is no image name; write for example timescale/timescaledb:2.19.3-pg16'],
    ],
    [
      'the image of the day',
      { image: 'postgres:latest' },
      ['image: latest may be another PostgreSQL on the next host; write for example timescale/timescaledb:2.19.3-pg16'],
    ],
    [
      'an earlier PostgreSQL',
      { image: 'postgres:15.8' },
      [
        'image: postgres:15.8 is PostgreSQL 15, and the data of lighthouse are of PostgreSQL 16: another major version needs pg_upgrade, which Keeper does not do; write an image of PostgreSQL 16',
      ],
    ],
    [
      'a later PostgreSQL',
      { image: 'timescale/timescaledb:2.20.0-pg17' },
      [
        'image: timescale/timescaledb:2.20.0-pg17 is PostgreSQL 17, and the data of lighthouse are of PostgreSQL 16: another major version needs pg_upgrade, which Keeper does not do; write an image of PostgreSQL 16',
      ],
    ],
    [
      'an older TimescaleDB',
      { image: 'timescale/timescaledb:2.9.5-pg16' },
      [
        'image: timescale/timescaledb:2.9.5-pg16 has TimescaleDB 2.9.5, and lighthouse has had 2.19.3: an older one cannot open its data; write 2.19.3 or a later one',
      ],
    ],
    [
      'what is neither true nor false',
      { updateExtension: 'yes' },
      ['updateExtension: "yes" is neither true nor false; write for example true'],
    ],
    [
      'what it has already',
      { ami: AMI, image: IMAGE, updateExtension: false },
      [
        `nothing would change: lighthouse is on ${AMI} with ${IMAGE}; write another image, or { "updateExtension": true } to update the extension alone`,
      ],
    ],
    [
      'nothing, when the AMI is the newest',
      {},
      [
        `nothing would change: lighthouse is on ${AMI} with ${IMAGE}; write another image, or { "updateExtension": true } to update the extension alone`,
      ],
    ],
  ])('refuses %s', (_, request, expected) => {
    expect(refusals('patch', request)).toEqual(expected);
  });
});

describe('a runbook begins on sound ground', () => {
  it.each<[string, Partial<PreflightFacts>, string]>([
    [
      'no host serves',
      { state: { volume: volume(), hosts: [] } },
      'no host serves lighthouse at the moment; try again when Keeper has brought it back',
    ],
    [
      'the address is on its way',
      on({ hasAddress: false }),
      'no host serves lighthouse at the moment; try again when Keeper has brought it back',
    ],
    [
      'AWS takes the host',
      on({ interruptedAt: NOW }),
      `AWS takes ${SOURCE}, which serves lighthouse; try again when Keeper has moved it`,
    ],
    [
      'the host is impaired',
      on({ impaired: true }),
      `${SOURCE}, which serves lighthouse, fails EC2's status checks; try again when Keeper has moved it`,
    ],
    [
      'the host has not proven itself',
      on({ verified: false }),
      `${SOURCE} has the volume of lighthouse, and nobody has seen it serve yet; try again in a few minutes`,
    ],
  ])('and is refused while %s', (_, overrides, sentence) => {
    expect(refusals('scale-up', { volumeGiB: 100 }, overrides)).toEqual([sentence]);
    expect(refusals('patch', { updateExtension: true }, overrides)).toEqual([sentence]);
  });
});

describe('a runbook works alone', () => {
  const request = { instanceType: 't4g.medium' };
  const relocation = (name: string, startedAt: number) => runbook(name, startedAt, 'keeper-relocate');

  it.each([
    ['a relocation', relocation('lighthouse-i-0123456789abcdef0', NOW - MINUTE)],
    ['a relocation that has just started', relocation('lighthouse-spot-2026-01-05', NOW + 1_000)],
    ['another scale-up', runbook('lighthouse-scale-up-2026-01-05T1159', NOW - MINUTE)],
  ])('and is refused while %s is running', (_, other) => {
    expect(refusals('scale-up', request, { running: [other] })).toEqual([
      `${other.machine} is running (${other.name}); try again when it has ended`,
    ]);
  });

  it.each([
    ['a relocation that a person named', relocation('friday', NOW - MINUTE)],
    ['a scale-up that the console named', runbook('c5f3e3de-8a37-4a3f-9a6e-2d6c1d2f7b7a', NOW - MINUTE)],
    ['a patch that a person named', runbook('z', NOW - 1, 'keeper-patch')],
  ])("and is refused while %s is running, which may be another database's", (_, other) => {
    expect(refusals('scale-up', request, { running: [other] })).toEqual([
      `${other.machine} is running (${other.name}, for a database that its name does not tell); try again when it has ended`,
    ]);
  });

  it.each([
    ['itself', runbook('b', NOW)],
    ['itself, whose start the list has otherwise', runbook('b', NOW - 1_000)],
    ["another database's relocation", relocation('lighthouse-b-i-0123456789abcdef0', NOW - MINUTE)],
    ["another database's runbook", runbook('other-scale-up-2026-01-05T1159', NOW - MINUTE)],
    ['a runbook that started later, which is refused itself', runbook('a', NOW + 1)],
  ])('and goes on beside %s', (_, other) => {
    expect(refusals('scale-up', request, { running: [other] })).toEqual([]);
  });

  it('and names everything that is running', () => {
    const running = [relocation('lighthouse-i-1', NOW), runbook('a', NOW - 1)];
    expect(refusals('scale-up', request, { running })).toEqual([
      'keeper-relocate is running (lighthouse-i-1); try again when it has ended',
      'keeper-scale-up is running (a, for a database that its name does not tell); try again when it has ended',
    ]);
  });

  it.each<[string, RunningExecution, RunningExecution]>([
    ['at different moments', runbook('z', NOW), runbook('a', NOW + 1)],
    ['at one moment', runbook('a', NOW), runbook('z', NOW)],
    ['at one moment under one name', runbook('a', NOW, 'keeper-patch'), runbook('a', NOW, 'keeper-scale-up')],
  ])('so of two that start %s exactly one goes on', (_, first, second) => {
    const running = [first, second];
    const goesOn = (own: RunningExecution) => refusals('scale-up', request, { running, own }).length === 0;
    expect([goesOn(first), goesOn(second)]).toEqual([true, false]);
  });
});
