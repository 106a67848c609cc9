import { imageProblem } from '../functions/core/image.ts';
import { checkWindow, type MaintenanceWindow } from '../functions/core/window.ts';
import { addressesOf, isReserved } from './addresses.ts';

/** What a person configures of one database. */
export interface DatabaseConfig {
  /** The availability zone of the data volume, and so of every host, e.g. `us-east-1a`. */
  readonly zone: string;
  /** The private IPv4 address at which clients find the database, whichever host serves it; see {@link addressesOf}. */
  readonly address: string;
  /** Size of the data volume in GiB, 1 to 65,536 (gp3). It can grow later, never shrink. */
  readonly volumeGiB: number;
  /** ARM (Graviton) instance types. The more, the likelier that Spot has one of them. */
  readonly instanceTypes: readonly string[];
  /** A PostgreSQL or TimescaleDB image for ARM, with a tag or, better, a digest. */
  readonly image: string;
  /** CIDR blocks from which clients connect to port 5432. Default: Keeper's own network. */
  readonly clients?: readonly string[];
  /** When Keeper may move the database without need: back to Spot, onto the newest AMI. Default: {@link DEFAULT_WINDOW}. */
  readonly window?: MaintenanceWindow;
}

/** Every night. */
export const DEFAULT_WINDOW: MaintenanceWindow = { from: '03:00', hours: 2 };

export interface KeeperConfig {
  /** Mail addresses that are told what happened. */
  readonly notify: readonly string[];
  /** By name: a lower-case letter, then letters, digits and hyphens, 40 characters at most. */
  readonly databases: Readonly<Record<string, DatabaseConfig>>;
}

/** The configuration cannot be deployed; the message names each field and a value that would do. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/**
 * Checks the configuration, so that a mistake ends at synth and not at three in the morning.
 *
 * @throws ConfigError listing everything that is wrong
 */
export function defineConfig(config: KeeperConfig): KeeperConfig {
  const problems: string[] = [];
  const names = Object.keys(config.databases);
  if (names.length === 0)
    problems.push("databases: is empty; write for example { lighthouse: { zone: 'us-east-1a', … } }");
  for (const name of names) {
    if (!/^[a-z][a-z0-9-]{0,39}$/.test(name)) {
      problems.push(
        `databases: the name ${JSON.stringify(name)} must be a lower-case letter and then letters, digits or hyphens, 40 at most; write for example lighthouse`,
      );
    }
    problems.push(...checkDatabase(`databases.${name}`, config.databases[name] as DatabaseConfig));
  }
  for (const [name, { address }] of Object.entries(config.databases)) {
    const other = names.find((each) => each < name && config.databases[each]?.address === address);
    if (other) problems.push(`databases.${name}.address: ${address} is ${other}'s already; write another one`);
  }
  const regions = new Set(names.map((name) => regionOf(config.databases[name] as DatabaseConfig)));
  if (regions.size > 1)
    problems.push(
      `databases: one app serves one region, these are in ${[...regions].join(' and ')}; deploy one app for each`,
    );
  for (const address of config.notify) {
    if (!/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(address)) {
      problems.push(`notify: ${JSON.stringify(address)} is no mail address; write for example ops@example.com`);
    }
  }
  if (problems.length > 0)
    throw new ConfigError(`keeper.config.ts cannot be deployed:\n${problems.map((each) => `  ${each}`).join('\n')}`);
  return config;
}

function* checkDatabase(field: string, database: DatabaseConfig): Generator<string> {
  if (!/^[a-z]{2}(-[a-z]+)+-\d[a-z]$/.test(database.zone)) {
    yield `${field}.zone: ${JSON.stringify(database.zone)} is no availability zone; write for example us-east-1a`;
  }
  const { first, last } = addressesOf(database.zone);
  if (!isReserved(database.address, database.zone)) {
    yield `${field}.address: ${JSON.stringify(database.address)} is not reserved for databases in ${database.zone}; write one from ${first} to ${last}`;
  }
  // docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html, Size
  if (!Number.isInteger(database.volumeGiB) || database.volumeGiB < 1 || database.volumeGiB > 65_536) {
    yield `${field}.volumeGiB: ${database.volumeGiB} is not a whole number from 1 to 65536; write for example 20`;
  }
  if (database.instanceTypes.length === 0)
    yield `${field}.instanceTypes: is empty; write for example ['t4g.small', 'c7g.medium']`;
  if (new Set(database.instanceTypes).size < database.instanceTypes.length) {
    yield `${field}.instanceTypes: names a type twice; leave one of them out`;
  }
  for (const type of database.instanceTypes) {
    if (!isGraviton(type)) {
      yield `${field}.instanceTypes: ${JSON.stringify(type)} is no ARM (Graviton) type; write for example t4g.small`;
    }
  }
  const problem = imageProblem(database.image);
  if (problem) yield `${field}.image: ${problem}`;
  for (const cidr of database.clients ?? []) {
    if (!/^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/.test(cidr)) {
      yield `${field}.clients: ${JSON.stringify(cidr)} is no IPv4 CIDR block; write for example 10.42.0.0/16`;
    } else if (cidr.endsWith('/0')) {
      yield `${field}.clients: ${cidr} opens the database to the world; write the blocks of your clients, for example 10.42.0.0/16`;
    }
  }
  for (const problem of checkWindow(database.window ?? DEFAULT_WINDOW)) yield `${field}.window.${problem}`;
}

/**
 * Graviton families have a `g` right behind the generation (t4g, c7gn, m8gd). The first one, a1, is too old for Amazon
 * Linux 2023.
 */
function isGraviton(type: string): boolean {
  return /^[a-z]+\d+g[a-z]*\.(nano|micro|small|medium|(\d+)?x?large|metal(-\d+xl)?)$/.test(type);
}

/** `us-east-1` of `us-east-1a` */
export function regionOf(database: Pick<DatabaseConfig, 'zone'>): string {
  return database.zone.slice(0, -1);
}
