import { describe, expect, it } from 'vitest';
import { ConfigError, type DatabaseConfig, defineConfig, type KeeperConfig } from '../../infra/config.ts';

function database(overrides: Partial<DatabaseConfig> = {}): DatabaseConfig {
  return {
    zone: 'us-east-1a',
    address: '10.77.0.16',
    volumeGiB: 20,
    instanceTypes: ['t4g.small'],
    image: 'timescale/timescaledb:2.19.3-pg16',
    ...overrides,
  };
}

function config(overrides: Partial<KeeperConfig> = {}): KeeperConfig {
  return { notify: ['ops@example.com'], databases: { lighthouse: database() }, ...overrides };
}

describe('a configuration', () => {
  it('passes when it can be deployed', () => {
    const good = config({
      databases: {
        lighthouse: database(),
        'second-one': database({
          address: '10.77.0.17',
          image: `postgres:16.4@sha256:${'0'.repeat(64)}`,
          window: { days: ['sat', 'sun'], from: '22:30', hours: 6 },
        }),
      },
    });
    expect(defineConfig(good)).toBe(good);
  });

  it.each<[string, KeeperConfig, string]>([
    [
      'an address that EC2 may give to a host',
      config({ databases: { a: database({ address: '10.77.0.200' }) } }),
      'databases.a.address: "10.77.0.200" is not reserved for databases in us-east-1a; write one from 10.77.0.16 to 10.77.0.31',
    ],
    [
      'an address of another zone',
      config({ databases: { a: database({ zone: 'us-east-1b' }) } }),
      'write one from 10.77.1.16 to 10.77.1.31',
    ],
    [
      'one address twice',
      config({ databases: { a: database(), b: database() } }),
      "databases.b.address: 10.77.0.16 is a's already",
    ],
    [
      'an image of PostgreSQL 18',
      config({ databases: { a: database({ image: 'timescale/timescaledb:2.23.0-pg18' }) } }),
      'databases.a.image: the images of PostgreSQL 18',
    ],
    [
      'the first Graviton',
      config({ databases: { a: database({ instanceTypes: ['a1.medium'] }) } }),
      '"a1.medium" is no ARM (Graviton) type',
    ],
    [
      'no database',
      config({ databases: {} }),
      "databases: is empty; write for example { lighthouse: { zone: 'us-east-1a', … } }",
    ],
    [
      'a name with capitals',
      config({ databases: { Lighthouse: database() } }),
      'databases: the name "Lighthouse" must be a lower-case letter',
    ],
    ['a name with a newline', config({ databases: { 'a\nb': database() } }), 'databases: the name "a\\nb" must be'],
    [
      'a region for a zone',
      config({ databases: { a: database({ zone: 'us-east-1' }) } }),
      'databases.a.zone: "us-east-1" is no availability zone; write for example us-east-1a',
    ],
    [
      'two regions',
      config({ databases: { a: database(), b: database({ zone: 'eu-west-1b' }) } }),
      'one app serves one region',
    ],
    [
      'half a GiB',
      config({ databases: { a: database({ volumeGiB: 0.5 }) } }),
      'databases.a.volumeGiB: 0.5 is not a whole number from 1 to 65536; write for example 20',
    ],
    ['too many GiB', config({ databases: { a: database({ volumeGiB: 65_537 }) } }), 'databases.a.volumeGiB: 65537'],
    [
      'no types',
      config({ databases: { a: database({ instanceTypes: [] }) } }),
      "databases.a.instanceTypes: is empty; write for example ['t4g.small', 'c7g.medium']",
    ],
    [
      'an x86 type',
      config({ databases: { a: database({ instanceTypes: ['t3.small'] }) } }),
      'databases.a.instanceTypes: "t3.small" is no ARM (Graviton) type; write for example t4g.small',
    ],
    [
      'a GPU type that only looks like ARM',
      config({ databases: { a: database({ instanceTypes: ['g5.xlarge'] }) } }),
      '"g5.xlarge" is no ARM (Graviton) type',
    ],
    [
      'a type twice',
      config({ databases: { a: database({ instanceTypes: ['t4g.small', 't4g.small'] }) } }),
      'databases.a.instanceTypes: names a type twice',
    ],
    [
      'an image without a tag',
      config({ databases: { a: database({ image: 'timescale/timescaledb' }) } }),
      'databases.a.image: "timescale/timescaledb" has no tag',
    ],
    [
      'the image of the day',
      config({ databases: { a: database({ image: 'timescale/timescaledb:latest' }) } }),
      'databases.a.image: latest may be another PostgreSQL on the next host',
    ],
    [
      'an image that leaves its quotes',
      config({ databases: { a: database({ image: "x:1'; reboot; '" }) } }),
      'databases.a.image:',
    ],
    [
      'the world as client',
      config({ databases: { a: database({ clients: ['0.0.0.0/0'] }) } }),
      'databases.a.clients: 0.0.0.0/0 opens the database to the world',
    ],
    [
      'a client that is no block',
      config({ databases: { a: database({ clients: ['10.0.0.1'] }) } }),
      'databases.a.clients: "10.0.0.1" is no IPv4 CIDR block',
    ],
    [
      'a window that opens on no day',
      config({ databases: { a: database({ window: { days: [], from: '03:00', hours: 2 } }) } }),
      "databases.a.window.days: is empty, so the window never opens; write for example ['sat', 'sun'], or leave it out",
    ],
    [
      'a window on a day that no week has',
      config({ databases: { a: database({ window: { days: ['Sun' as 'sun'], from: '03:00', hours: 2 } }) } }),
      'databases.a.window.days: "Sun" is no day of the week; write for example sun',
    ],
    [
      'a window that opens at no time',
      config({ databases: { a: database({ window: { from: '3:00', hours: 2 } }) } }),
      'databases.a.window.from: "3:00" is no time of day in UTC; write for example 03:00',
    ],
    [
      'a window that never opens',
      config({ databases: { a: database({ window: { from: '03:00', hours: 0 } }) } }),
      'databases.a.window.hours: 0 is not a whole number from 1 to 24; write for example 2',
    ],
    [
      'a window longer than a day',
      config({ databases: { a: database({ window: { from: '03:00', hours: 25 } }) } }),
      'databases.a.window.hours: 25 is not a whole number from 1 to 24; write for example 2',
    ],
    [
      'a mail address that is none',
      config({ notify: ['ops'] }),
      'notify: "ops" is no mail address; write for example ops@example.com',
    ],
  ])('with %s is refused', (_, bad, message) => {
    expect(() => defineConfig(bad)).toThrow(ConfigError);
    expect(() => defineConfig(bad)).toThrow(message);
  });

  it('is refused with everything that is wrong at once', () => {
    const bad = config({ notify: ['ops'], databases: { a: database({ zone: 'x', volumeGiB: 0 }) } });
    expect(() => defineConfig(bad)).toThrow(/zone[\s\S]*volumeGiB[\s\S]*notify/);
  });
});
