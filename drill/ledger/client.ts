/**
 * Writes numbered rows through the database's address, each a commit of its own, until its stdin ends; then reads the table
 * back. It behaves as a well-made application does: short timeouts, quick reconnects. It never sends a number twice, so that
 * a row that was acknowledged and is not there is lost, whatever else happened.
 */
import pg from 'pg';
import { RealClock } from '../cloud/clock.ts';
import type { ClientMessage, ClientOptions } from './protocol.ts';

const CONNECT_TIMEOUT_MS = 1000;
const STATEMENT_TIMEOUT_MS = 2000;
const RECONNECT_MS = 50;
const REPORT_MS = 100;
/** How long the database may take to be there again when the table is read back. */
const CHECK_MS = 120_000;

const clock = new RealClock();
const options: ClientOptions = JSON.parse(process.argv[2] ?? '');
let acknowledged: [number: number, sentAt: number, acknowledgedAt: number][] = [];
let unanswered: number[] = [];
let stopping = false;

/** Resolves when all of it is on its way. */
function say(message: ClientMessage): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(message)}\n`, () => resolve()));
}

function reportProgress(): void {
  if (acknowledged.length + unanswered.length === 0) return;
  void say({ kind: 'progress', acknowledged, unanswered });
  acknowledged = [];
  unanswered = [];
}

/** @throws Error when nothing answers in time */
async function connect(): Promise<pg.Client> {
  const client = new pg.Client({
    host: options.address,
    user: 'postgres',
    database: 'postgres',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS,
  });
  client.on('error', () => {}); // the query that waits gets it too
  try {
    await client.connect();
    return client;
  } catch (error) {
    destroy(client);
    throw error;
  }
}

/** Without a goodbye: the server may be gone, and nobody would answer. */
function destroy(client: pg.Client): void {
  client.connection.stream.destroy();
}

/** The time of the next row. What an outage left undone is not caught up. */
async function turn(): Promise<void> {
  const now = clock.now();
  const mine = Math.max(due, now);
  due = mine + 1000 / options.ratePerSecond;
  if (mine > now) await clock.sleep(mine - now);
}

async function write(client: pg.Client): Promise<void> {
  const number = next++;
  const sentAt = clock.now();
  try {
    await client.query({ name: 'write', text: 'INSERT INTO drill.ledger (number) VALUES ($1)', values: [number] });
    acknowledged.push([number, sentAt, clock.now()]);
  } catch (error) {
    unanswered.push(number);
    throw error;
  }
}

/** One connection's life: rows until it breaks, and again. */
async function work(): Promise<void> {
  while (!stopping) {
    let client: pg.Client | undefined;
    try {
      client = await connect();
      while (!stopping) {
        await turn();
        await write(client);
      }
    } catch {
      await clock.sleep(RECONNECT_MS);
    } finally {
      if (client) destroy(client);
    }
  }
}

/** Tries again until it works: the database may be on its way. */
async function eventually<T>(attempt: (client: pg.Client) => Promise<T>): Promise<T> {
  const deadline = clock.now() + CHECK_MS;
  for (;;) {
    let client: pg.Client | undefined;
    try {
      client = await connect();
      return await attempt(client);
    } catch (error) {
      if (clock.now() > deadline) throw error;
      await clock.sleep(RECONNECT_MS);
    } finally {
      if (client) destroy(client);
    }
  }
}

let next = await eventually(async (client) => {
  await client.query(
    'CREATE SCHEMA IF NOT EXISTS drill; CREATE TABLE IF NOT EXISTS drill.ledger (number bigint PRIMARY KEY, at timestamptz DEFAULT now())',
  );
  const { rows } = await client.query<{ next: string }>(
    'SELECT coalesce(max(number) + 1, 0) AS next FROM drill.ledger',
  );
  return Number(rows[0]?.next);
});
let due = clock.now();
process.stdin.resume().once('end', () => {
  stopping = true;
});
const workers = Promise.all(Array.from({ length: options.connections }, work));
const reports = (async () => {
  while (!stopping) {
    await clock.sleep(REPORT_MS);
    reportProgress();
  }
})();
await Promise.all([workers, reports]);
reportProgress();
const table = await eventually((client) => client.query<{ number: string }>('SELECT number FROM drill.ledger'));
await say({ kind: 'table', numbers: table.rows.map((row) => Number(row.number)) });
process.exit(0);
