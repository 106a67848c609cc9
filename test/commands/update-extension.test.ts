import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canRunHosts, command, Stage, type TestHost } from './hosts.ts';

/** An extension of this name with two versions; its update does not succeed in the database `broken`. */
const EXTENSION = `cd "$(echo /usr/share/postgresql/*/extension)"
echo "default_version = '2'" >timescaledb.control
echo 'CREATE FUNCTION one() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;' >timescaledb--1.sql
cat >timescaledb--1--2.sql <<'SQL'
DO $$ BEGIN IF current_database() = 'broken' THEN RAISE 'it is broken'; END IF; END $$;
SQL`;

describe.runIf(canRunHosts)('update-extension', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  });
  afterAll(() => stage.close());

  const update = (host: TestHost) => host.run(command('update-extension'));
  const inDatabase = (host: TestHost, name: string, statement: string) =>
    host.run('docker exec --env PGDATABASE="$NAME" keeper-postgres psql -X -A -t -q -U postgres -c "$STATEMENT"', {
      NAME: name,
      STATEMENT: statement,
    });
  const install = (host: TestHost, name: string) => inDatabase(host, name, "CREATE EXTENSION timescaledb VERSION '1'");

  it('says that no database has it', async () => {
    const { host } = await stage.serving();
    expect(await update(host)).toMatchObject({
      exitCode: 0,
      stdout: 'update-extension: no database has the extension timescaledb\n',
      stderr: '',
    });
  });

  it('updates it wherever it is, whatever the database is called, and can be run twice', async () => {
    const { host } = await stage.serving();
    await host.run(EXTENSION);
    const odd = `it's $(reboot) "a"=b; DROP`;
    for (const name of [odd, 'closed', 'without']) await host.sql(`CREATE DATABASE "${name.replaceAll('"', '""')}"`);
    for (const name of [odd, 'closed', 'template1']) await install(host, name);
    await host.sql('ALTER DATABASE closed ALLOW_CONNECTIONS false');

    expect(await update(host)).toMatchObject({
      exitCode: 0,
      stdout: `${odd}: 1 → 2\ntemplate1: 1 → 2\n`,
      stderr: '',
    });
    expect((await inDatabase(host, odd, 'SELECT extversion FROM pg_extension')).stdout).toContain('2\n');
    expect(await update(host)).toMatchObject({ exitCode: 0, stdout: `${odd}: 2 → 2\ntemplate1: 2 → 2\n` });
  });

  it('says where it fails and why, and updates the others', async () => {
    const { host } = await stage.serving();
    await host.run(EXTENSION);
    for (const name of ['broken', 'sound']) {
      await host.sql(`CREATE DATABASE ${name}`);
      await install(host, name);
    }
    const updated = await update(host);
    expect(updated).toMatchObject({ exitCode: 41, stdout: 'sound: 1 → 2\n' });
    expect(updated.stderr).toMatch(/^update-extension: broken: ERROR: {2}it is broken\n/);
    expect(updated.stderr).toContain('update-extension: not updated in 1 of 4 databases\n');
  });

  it('fails where no server answers', async () => {
    const { host, volumeId } = await stage.serving();
    await host.release(volumeId);
    expect(await update(host)).toMatchObject({
      exitCode: 40,
      stderr: expect.stringContaining('the databases could not be listed'),
    });
  });
});
