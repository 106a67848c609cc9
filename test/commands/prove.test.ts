import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, command, Stage, type TestHost, TIMESCALEDB } from './hosts.ts';

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly detail: string;
  readonly findings?: readonly string[];
  readonly more?: number;
}

interface Report {
  readonly ok: boolean;
  readonly level: string;
  readonly checks: readonly Check[];
  readonly censusTakenAt: string | null;
  readonly serverVersion: string | null;
  readonly timescaledb: string | null;
  readonly recoverySeconds: number | null;
  readonly bytesRead: number | null;
  readonly seconds: number;
}

/** `orders`, `docs` and `doomed_…` do not change between the censuses; `ledger` and `journal` always do. */
const SCHEMA = `
CREATE TABLE orders (id int PRIMARY KEY, note text NOT NULL);
INSERT INTO orders SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
CREATE INDEX orders_note ON orders (note);
CREATE TABLE docs (id int PRIMARY KEY, body text NOT NULL);
ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
INSERT INTO docs SELECT n, repeat(md5(n::text), 200) FROM generate_series(1, 300) n;
CREATE INDEX docs_words ON docs USING gin (to_tsvector('english', left(body, 100)));
DO $$ BEGIN FOR n IN 1..25 LOOP EXECUTE format('CREATE TABLE doomed_%s ()', n); END LOOP; END $$;
CREATE EXTENSION timescaledb;
CREATE TABLE "it's; ""a""
 table" AS SELECT 1 AS n;
CREATE UNLOGGED TABLE scratchpad AS SELECT 1 AS n;
CREATE MATERIALIZED VIEW recent AS SELECT * FROM orders LIMIT 100;
CREATE VIEW notes AS SELECT note FROM orders;
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), n int);
INSERT INTO ledger (n) SELECT 0 FROM generate_series(1, 1000);
DELETE FROM ledger WHERE id <= 500;
CREATE TABLE journal AS SELECT n, repeat('x', 50) AS note FROM generate_series(1, 20000) n;
VACUUM ANALYZE;`;
const ODD = `it's $(reboot) an "odd"=db]`;

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** A client that inserts, updates and deletes until the file is gone. */
const LOAD = `touch /run/load; while [[ -e /run/load ]]; do
  docker exec --env PGDATABASE=app keeper-postgres psql -X -q -U postgres -c "INSERT INTO ledger (n) VALUES (1)" \\
    -c "UPDATE ledger SET n = n + 1 WHERE id % 7 = 0" -c "DELETE FROM ledger WHERE id = (SELECT min(id) FROM ledger)"
done`;

/** Replaces one half of `journal`, twice: any number of its rows may go. The other half is known to be visible. */
const CHURN = 'DELETE FROM journal WHERE n > 10000; INSERT INTO journal SELECT n FROM generate_series(10001, 20000) n;';

/** Relations that damage is done to: files below pgdata, by name. */
const FILES = ['orders', 'orders_note', 'docs_words', 'journal'];

const SNAPSHOTS = ['snap-1', 'snap-2', 'snap-3'] as const;
const GOOD = 'snap-2';
const censusOf = (snapshotId: string) => `census-of-${snapshotId}`;

/** Puts random bytes into the middle of a page. */
const scribble = (path: string, block: number) =>
  `head -c 100 /dev/urandom | dd of="${path}" bs=1 seek=$((8192 * ${block} + 4000)) conv=notrunc status=none`;
/** Starts a server on the damaged copy, without a network, and stops it again. */
const inServer = (statement: string) => `cat >/tmp/statement <<'SQL'
${statement}
SQL
chown -R postgres /mnt/pgdata; cd /mnt
setpriv --reuid postgres --regid postgres --init-groups bash -ec '
  PATH=/opt/drill/postgresql:$PATH
  pg_ctl -D /mnt/pgdata -w -s -o "-c listen_addresses= -k /tmp -c shared_buffers=16MB" -l /tmp/log start
  psql -X -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d app -f /tmp/statement
  pg_ctl -D /mnt/pgdata -w -s stop'
cd /`;

describe.runIf(canRunHosts)('prove', () => {
  let stage: Stage;
  const paths: Record<string, string> = {};
  beforeAll(async () => {
    stage = await Stage.open();
    const { host, volumeId } = await stage.serving();
    await host.run(TIMESCALEDB);
    await fill(host);
    await census(host, censusOf('yesterday'));
    await stage.hosts.createSnapshot('yesterday', volumeId);
    const load = host.run(LOAD);
    for (const snapshotId of SNAPSHOTS) {
      for (let round = 0; round < 2; round++) await host.sql(CHURN, 'app');
      await census(host, censusOf(snapshotId));
      await stage.hosts.createSnapshot(snapshotId, volumeId);
    }
    await host.run('rm /run/load');
    await load;
    for (const name of FILES) paths[name] = await pathOf(host, `'${name}'`);
    paths['toast'] = await pathOf(host, "(SELECT reltoastrelid FROM pg_class WHERE relname = 'docs')");
  });
  afterAll(() => stage.close());

  async function fill(host: TestHost) {
    for (const name of ['app', ODD]) await host.sql(`CREATE DATABASE ${quoted(name)}`);
    for (const statement of SCHEMA.split(';\n')) expect(await host.sql(statement, 'app')).toMatchObject({ stderr: '' });
    await host.sql('CREATE TABLE t (n int)', ODD);
  }

  async function census(host: TestHost, id: string) {
    expect(await host.census(id)).toMatchObject({ exitCode: 0, stderr: '' });
  }

  async function pathOf(host: TestHost, relation: string) {
    return (await host.sql(`SELECT pg_relation_filepath(${relation}::regclass)`, 'app')).stdout.trim();
  }

  /** A clone of the good snapshot on which this script ran; the file system is at /mnt. */
  async function damaged(script: string): Promise<string> {
    const volumeId = await stage.clone(GOOD);
    const workshop = await stage.host();
    await workshop.host.attach({ volumeId, sizeGiB: 8 });
    const done = await workshop.run(
      `set -e; mkdir -p /mnt; mount -o nouuid $DEVICE /mnt; cd /mnt/pgdata\n${script}\ncd /; umount /mnt`,
      workshop.device(volumeId),
    );
    expect(done).toMatchObject({ exitCode: 0 });
    await workshop.host.detach(volumeId);
    return volumeId;
  }

  async function reportOn(volumeId: string, extra: Readonly<Record<string, string>> = {}): Promise<Report> {
    const { host, answer } = await stage.prove([volumeId], { KEEPER_CENSUS: censusOf(GOOD), ...extra });
    const { action, input } = await answer;
    expect(action, `${input['cause']}`).toBe('SendTaskSuccess');
    await host.host.shutdown('hard');
    return JSON.parse(String(input['output']));
  }

  const failed = (report: Report) => report.checks.filter(({ ok }) => !ok);

  it.concurrent.each(SNAPSHOTS)('proves a snapshot taken while a client writes (%s)', async (snapshotId) => {
    const report = await reportOn(await stage.clone(snapshotId), { KEEPER_CENSUS: censusOf(snapshotId) });
    expect(failed(report)).toEqual([]);
    expect(report).toMatchObject({ ok: true, level: 'full', timescaledb: '2.19.3' });
    expect(report.checks.map(({ name }) => name)).toEqual(
      'mount data-directory recovery catalog census timescaledb pages heaps indexes relations rows'.split(' '),
    );
    expect(report.censusTakenAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(report.serverVersion).toMatch(/^\d+\.\d+$/);
    expect(report.recoverySeconds).toBeGreaterThan(0);
    expect(report.bytesRead).toBeGreaterThan(20 << 20);
  });

  it.concurrent('proves at the level quick that it recovers and can be read', async () => {
    const report = await reportOn(await stage.clone(GOOD), { KEEPER_LEVEL: 'quick' });
    expect(report).toMatchObject({ ok: true, level: 'quick' });
    expect(report.checks.map(({ name }) => name)).toEqual(
      'mount data-directory recovery catalog census timescaledb'.split(' '),
    );
  });

  it.concurrent.each([
    {
      what: 'random bytes in a heap page',
      damage: () => scribble(paths['orders'] ?? '', 5),
      found: [
        ['pages', /^database app: table public\.orders cannot be read: invalid page in block 5 of relation base\//],
      ],
    },
    {
      what: 'random bytes in a B-tree',
      damage: () => scribble(paths['orders_note'] ?? '', 7),
      found: [
        ['pages', /^database app: index public\.orders_note of public\.orders cannot be read: invalid page in block 7/],
      ],
    },
    {
      what: 'random bytes in another kind of index',
      damage: () => scribble(paths['docs_words'] ?? '', 2),
      found: [
        ['pages', /^database app: index public\.docs_words of public\.docs cannot be read: invalid page in block 2/],
      ],
    },
    {
      what: 'random bytes in TOAST',
      damage: () => scribble(paths['toast'] ?? '', 30),
      found: [
        [
          'pages',
          /^database app: TOAST table pg_toast\.pg_toast_\d+ of public\.docs cannot be read: invalid page in block 30/,
        ],
        ['heaps', /^database app: table public\.docs is damaged: invalid page in block 30/],
      ],
    },
    {
      what: 'a relation file that is missing',
      damage: () => `rm ${paths['orders']}`,
      found: [
        ['pages', /^database app: table public\.orders cannot be read: could not open file/],
        ['relations', /^database app: table public\.orders has 0 bytes/],
      ],
    },
    {
      what: 'a missing segment of pg_xact',
      damage: () => 'rm pg_xact/0000',
      found: [['data-directory', /^a part of pg_xact is missing/]],
    },
    {
      what: 'a missing segment of the WAL',
      damage: () => 'rm pg_wal/0000*',
      found: [
        ['recovery', /^PostgreSQL does not start from it: PANIC: {2}could not locate a valid checkpoint record$/],
      ],
    },
    {
      what: 'WAL that ends too early',
      damage: () => `PATH=/opt/drill/postgresql:$PATH
        lsn=$(pg_controldata . | sed -n "s/^Latest checkpoint location: *//p"); file=pg_wal/$(pg_controldata . | sed -n "s/^Latest.*REDO WAL file: *//p")
        end=$(( (0x\${lsn#*/} & 0xffffff) + 200 )); dd if=/dev/zero of=$file bs=1 seek=$end count=4096 conv=notrunc status=none`,
      found: [
        [
          'census',
          /^the census census-of-snap-2 that was written before the snapshot is not in it: the end of the WAL is missing/,
        ],
      ],
    },
    {
      what: 'a zeroed page of a quiet table',
      damage: () => `dd if=/dev/zero of=${paths['orders']} bs=8192 seek=5 count=1 conv=notrunc status=none`,
      found: [
        ['heaps', /^database app: table public\.orders is damaged: block 5 is marked all-visible, and is not$/],
        ['rows', /^database app: table public\.orders has 19880 rows; in the census it has 20000$/],
      ],
    },
    {
      what: 'a zeroed page of a busy table',
      damage: () => `dd if=/dev/zero of=${paths['journal']} bs=8192 seek=5 count=1 conv=notrunc status=none`,
      found: [['heaps', /^database app: table public\.journal is damaged: block 5 is marked all-visible, and is not$/]],
    },
    {
      what: 'a truncated busy table',
      damage: () => `truncate --size $((8192 * 80)) ${paths['journal']}`,
      found: [
        ['heaps', /^database app: table public\.journal is damaged: block 80 is marked all-visible, and the file ends/],
      ],
    },
    {
      what: 'a zeroed page of an index',
      damage: () => `dd if=/dev/zero of=${paths['orders_note']} bs=8192 seek=5 count=1 conv=notrunc status=none`,
      found: [['indexes', /^database app: index public\.orders_note of public\.orders is damaged: .*zero page/]],
    },
    {
      what: 'a truncated quiet table',
      damage: () => `truncate --size $((8192 * 100)) ${paths['orders']}`,
      found: [
        ['heaps', /^database app: table public\.orders is damaged: block 100 is marked all-visible, and the file ends/],
        [
          'relations',
          /^database app: table public\.orders has 819200 bytes; in the census it has \d+, and it does not change$/,
        ],
        ['rows', /^database app: table public\.orders has 12000 rows; in the census it has 20000$/],
      ],
    },
    {
      what: 'a truncated index that is not a B-tree',
      damage: () => `truncate --size $((8192 * 3)) ${paths['docs_words']}`,
      found: [
        ['relations', /^database app: index public\.docs_words of public\.docs has 24576 bytes; in the census it has/],
      ],
    },
    {
      what: 'a dropped database',
      damage: () => inServer(`DROP DATABASE ${quoted(ODD)}`),
      found: [['relations', /^database it's \$\(reboot\) an "odd"=db\] of the census is missing$/]],
    },
    {
      what: 'a table with a tenth of its rows gone',
      damage: () => inServer('DELETE FROM orders WHERE id % 10 = 0'),
      found: [['rows', /^database app: table public\.orders has 18000 rows; in the census it has 20000$/]],
    },
    {
      what: 'a chunk of TimescaleDB that is missing',
      damage: () =>
        inServer(
          'CREATE OR REPLACE VIEW timescaledb_information.chunks AS SELECT false AS is_compressed FROM generate_series(1, 5)',
        ),
      found: [['timescaledb', /^database app: TimescaleDB: compressedChunks: 0; in the census 2$/]],
    },
    {
      what: 'an image without the library',
      damage: () => `echo "shared_preload_libraries = 'timescaledb'" >>postgresql.conf`,
      found: [['recovery', /^PostgreSQL does not start from it: FATAL: {2}could not access file "timescaledb"/]],
    },
    {
      what: 'another major version of PostgreSQL',
      damage: () => 'echo 9 >PG_VERSION',
      found: [['data-directory', /^the data directory is of PostgreSQL 9, and the image has \d+\.\d+/]],
    },
    {
      what: 'a damaged control file',
      damage: () => 'printf x | dd of=global/pg_control bs=1 seek=100 conv=notrunc status=none',
      found: [['data-directory', /^the control file is damaged or of another PostgreSQL: /]],
    },
    {
      what: 'no data directory',
      damage: () => 'mv /mnt/pgdata /mnt/elsewhere',
      found: [['data-directory', /^the volume holds no PostgreSQL data directory in pgdata\/$/]],
    },
  ] as const)('finds $what', async ({ damage, found }) => {
    const report = await reportOn(await damaged(damage()));
    expect(report.ok).toBe(false);
    expect(failed(report).map(({ name, detail }) => [name, detail])).toEqual(
      found.map(([name, sentence]) => [name, expect.stringMatching(sentence)]),
    );
  });

  it.concurrent('finds dropped tables, and says how many more than twenty', async () => {
    const drop = "DO $$ BEGIN FOR n IN 1..25 LOOP EXECUTE format('DROP TABLE doomed_%s', n); END LOOP; END $$";
    const [check, ...others] = failed(await reportOn(await damaged(inServer(drop))));
    expect(others).toEqual([]);
    expect(check).toMatchObject({ name: 'relations', findings: { length: 20 }, more: 5 });
    expect(check?.findings).toContain(check?.detail);
    expect(check?.detail).toMatch(/^database app: table public\.doomed_\d+ of the census is missing$/);
  });

  it.concurrent('compares nothing where no census was written', async () => {
    const report = await reportOn(await stage.clone(GOOD), { KEEPER_CENSUS: '' });
    expect(report).toMatchObject({ ok: true, censusTakenAt: null });
    expect(report.checks.map(({ name }) => name)).toEqual(
      'mount data-directory recovery catalog census timescaledb pages heaps indexes'.split(' '),
    );
    expect(report.checks[4]?.detail).toContain('nothing can be compared');
  });

  it.concurrent('keeps the clone to itself, reports that it works, and ends by itself', async () => {
    const impatient = command('prove').replace('sleep 60', 'sleep 0.1');
    const { host, answer } = await stage.prove([await stage.clone(GOOD)], { KEEPER_LEVEL: 'quick' }, impatient);
    await stage.aws.called('SendTaskHeartbeat');
    expect(await answer).toMatchObject({ action: 'SendTaskSuccess' });
    expect((await host.run('cat /run/drill/shutdown')).stdout).toBe('-h +780\n');
    const { stdout: config } = await host.run('cat /var/lib/docker/containers/keeper-clone/config');
    expect(config).toContain('network="none"');
    for (const setting of [
      'timescaledb.max_background_workers=0',
      'default_transaction_read_only=on',
      'archive_mode=off',
      'autovacuum=off',
    ]) {
      expect(config).toContain(`"${setting}"`);
    }
    await host.host.shutdown('hard');
  });

  it.concurrent('takes what was written after the census for what it is', async () => {
    const later = `INSERT INTO orders VALUES (0, 'new'), (-1, 'new'); UPDATE orders SET note = 'old' WHERE id % 10 = 0;
      DELETE FROM orders WHERE id = -1; DELETE FROM ledger WHERE id < 510; CREATE TABLE later (n int); VACUUM;`;
    expect(failed(await reportOn(await damaged(inServer(later))))).toEqual([]);
  });

  it.concurrent('finds a snapshot of yesterday', async () => {
    const report = await reportOn(await stage.clone('yesterday'));
    expect(failed(report)).toMatchObject([{ name: 'census', detail: expect.stringContaining(censusOf(GOOD)) }]);
  });

  it.concurrent('finds that the volume is blank', async () => {
    const report = await reportOn(await stage.volume());
    expect(failed(report)).toMatchObject([
      { name: 'mount', detail: 'the volume has no XFS file system that can be mounted: it is blank' },
    ]);
  });

  it.concurrent('fails the task when it cannot check at all', async () => {
    const { answer } = await stage.prove([await stage.volume(), await stage.volume()]);
    expect(await answer).toMatchObject({
      action: 'SendTaskFailure',
      input: { error: 'CannotVerify', cause: expect.stringContaining('more than one volume is attached') },
    });
  });
});
