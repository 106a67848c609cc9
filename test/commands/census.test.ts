import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, command, Stage, type TestHost, TIMESCALEDB } from './hosts.ts';

/** 64 MiB is what counts as small. */
const LARGE = `CREATE TABLE large (n int, padding text);
ALTER TABLE large ALTER padding SET STORAGE PLAIN;
INSERT INTO large SELECT n, repeat('x', 7000) FROM generate_series(1, 9000) n`;

describe.runIf(canRunHosts)('census', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  let taken = 0;
  async function census(host: TestHost): Promise<Record<string, unknown>> {
    const result = await host.census(`census-${++taken}`);
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
    return JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '');
  }

  /** What the newest census says of the relation. */
  async function said(host: TestHost, columns: string, relation: string): Promise<string> {
    const newest = '(SELECT id FROM keeper.census ORDER BY taken_at DESC LIMIT 1)';
    const select = `SELECT ${columns} FROM keeper.census_relation WHERE census_id = ${newest} AND relation_name = '${relation}'`;
    return (await host.sql(select)).stdout.trim();
  }

  const COUNT = 'rows, exact, rows_least, rows_most, deleted_lately, quiet';

  it('tells what it has counted, leaves itself out, and keeps the last three', async () => {
    const { host } = await stage.serving();
    await host.sql('CREATE TABLE t (n int PRIMARY KEY)');
    await host.sql('INSERT INTO t SELECT generate_series(1, 10)');
    for (let n = 0; n < 4; n++) {
      expect(await census(host)).toEqual({
        census: `census-${taken}`,
        takenAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        databases: 1,
        relations: 2,
        rows: 10,
      });
    }
    expect((await host.sql('SELECT id FROM keeper.census ORDER BY taken_at')).stdout).toBe(
      [taken - 2, taken - 1, taken].map((n) => `census-${n}\n`).join(''),
    );
    expect((await host.sql('SELECT count(DISTINCT census_id) FROM keeper.census_relation')).stdout).toBe('3\n');
  });

  it('can be run again with the same id', async () => {
    const { host } = await stage.serving();
    for (let n = 0; n < 2; n++) expect(await host.census('same')).toMatchObject({ exitCode: 0 });
    expect((await host.sql('SELECT id FROM keeper.census')).stdout).toBe('same\n');
  });

  it('counts only what has changed, and estimates what is large', async () => {
    const { host } = await stage.serving();
    for (const statement of [
      'CREATE TABLE quiet AS SELECT generate_series(1, 10)',
      'CREATE TABLE busy AS SELECT generate_series(1, 10) AS n',
      'CREATE TABLE emptied AS SELECT 1',
      'CREATE UNLOGGED TABLE fleeting AS SELECT 1',
      ...LARGE.split(';\n'),
    ]) {
      expect(await host.sql(statement)).toMatchObject({ exitCode: 0 });
    }
    await census(host);
    expect(await said(host, COUNT, 'quiet')).toBe('10|t|10|10|0|f');
    expect(await said(host, COUNT, 'large')).toBe('9000|t|9000|9000|0|f');
    expect(await said(host, COUNT, 'fleeting')).toBe('|||||f'); // recovery empties it

    await host.sql('DELETE FROM busy WHERE n < 3');
    await host.sql('INSERT INTO busy VALUES (11)');
    await host.sql("INSERT INTO large SELECT 0, 'x' FROM generate_series(1, 5)");
    await host.sql('DELETE FROM large WHERE n <= 2');
    await host.sql('TRUNCATE emptied');
    await census(host);
    expect(await said(host, COUNT, 'quiet')).toBe('10|t|10|10|0|t');
    expect(await said(host, 'counted_at < (SELECT max(taken_at) FROM keeper.census)', 'quiet')).toBe('t');
    expect(await said(host, COUNT, 'busy')).toBe('9|t|9|9|2|f');
    expect(await said(host, COUNT, 'emptied')).toBe('0|t|0|0||f'); // any number may have gone
    // five of zero came and were deleted with two others, as far as the statistics tell
    expect(await said(host, COUNT, 'large')).toBe('8998|f|8993|9005|7|f');

    // it has come to rest
    await census(host);
    expect(await said(host, COUNT, 'large')).toBe('8998|t|8998|8998|0|t');
  });

  it('does not trust statistics that a crash has begun anew', async () => {
    const { host, volumeId } = await stage.serving();
    await host.sql('CREATE TABLE t (n int)');
    await host.sql('INSERT INTO t VALUES (1)');
    await host.sql('SELECT pg_stat_force_next_flush()');
    await census(host);
    await host.host.shutdown('hard');
    const next = await stage.host();
    await next.arm(volumeId);
    await next.receive(volumeId);
    await next.sql('INSERT INTO t VALUES (2)'); // again one row, as far as the statistics know
    await census(next);
    expect(await said(next, COUNT, 't')).toBe('2|t|2|2|0|f');
  });

  it('is not held up by a lock, and holds none that lasts', async () => {
    const { host } = await stage.serving();
    await host.sql('CREATE TABLE locked (n int)');
    await host.sql('CREATE TABLE other AS SELECT 1');
    const lock = host.sql('BEGIN; LOCK TABLE locked; SELECT pg_sleep(8)');
    await host.run(
      'until [[ $(docker exec keeper-postgres psql -U postgres -Atc "$ASK") == t ]]; do sleep 0.05; done',
      {
        ASK: "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'locked'::regclass AND granted",
      },
    );
    await census(host);
    expect(await said(host, `bytes, ${COUNT}`, 'locked')).toBe('|||||0|f');
    expect(await said(host, COUNT, 'other')).toBe('1|t|1|1|0|f');
    await lock;
  });

  it('takes names as they are', async () => {
    const { host } = await stage.serving();
    const odd = 'it\'s $(reboot) "a"=b\n\\.; DROP';
    await host.sql(`CREATE DATABASE "${odd.replaceAll('"', '""')}"`);
    await host.sql(`CREATE TABLE "${odd.replaceAll('"', '""')}" AS SELECT 1`, odd);
    expect(await census(host)).toMatchObject({ databases: 2, relations: 1, rows: 1 });
    expect(
      (await host.sql('SELECT relation_name = database_name, relation_name FROM keeper.census_relation')).stdout,
    ).toBe(`t|${odd}\n`);
  });

  it('describes what TimescaleDB has', async () => {
    const { host } = await stage.serving();
    await host.run(TIMESCALEDB);
    await host.sql('CREATE EXTENSION timescaledb');
    await census(host);
    const described = await host.sql('SELECT timescaledb FROM keeper.census_database');
    expect(JSON.parse(described.stdout)).toEqual({
      version: '2.19.3',
      hypertables: 1,
      chunks: 5,
      compressedChunks: 2,
      continuousAggregates: 1,
      jobs: 3,
    });
  });

  it.each([
    {
      what: 'no server answers',
      prepare: 'docker stop keeper-postgres',
      exitCode: 50,
      message: 'the tables of the census',
    },
    {
      what: 'a database cannot be counted',
      prepare: `${TIMESCALEDB}
        sed -i /jobs/d timescaledb--2.19.3.sql
        docker exec keeper-postgres psql -U postgres -c 'CREATE EXTENSION timescaledb'`,
      exitCode: 51,
      message: 'the database postgres could not be counted',
    },
  ])('fails where $what', async ({ prepare, exitCode, message }) => {
    const { host } = await stage.serving();
    await host.run(prepare);
    expect(await host.run(command('census'), { SSM_census: 'never' })).toMatchObject({
      exitCode,
      stdout: '',
      stderr: expect.stringContaining(message),
    });
  });
});
