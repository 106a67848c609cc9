import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { IMAGE_TAG, ROLE_TAG, SCRATCH_ROLE } from '../functions/core/tags.ts';
import { type Clock, RealClock } from './cloud/clock.ts';
import type { Cloud, Happening } from './cloud/kernel.ts';
import { sampleLatency } from './cloud/latencies.ts';
import { type CommandStep, parseSteps } from './cloud/ssm.ts';
import { EndpointServer } from './cloud/wire/server.ts';
import { diagnose, failureOf, findPage, type HostFacts, inspect } from './diagnosis.ts';
import { CLIENT_TABLE, readCopy } from './examination.ts';
import type { HostRuntime } from './hosts/host.ts';
import { ModelledHosts, type ModelledHostsOptions } from './hosts/modelled.ts';
import { directoryName } from './hosts/real/leftovers.ts';
import type { Outcome } from './hosts/real/processes.ts';
import { RealHosts } from './hosts/real.ts';
import { unlessAborted } from './interruption.ts';
import { type AcknowledgedRow, Ledger, type LedgerProgress } from './ledger/ledger.ts';
import { createLocalCloud, type LocalCloud } from './local-cloud.ts';
import { PromiseWatch } from './promises.ts';
import type { DrillReport } from './report.ts';

/** What a client was told, and what is in the database. */
export interface Account {
  readonly acknowledged: number;
  readonly lost: number;
  readonly rows: readonly AcknowledgedRow[];
  /** Times without acknowledged commits, in milliseconds since the epoch. */
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
}

/** A client of the database that writes until it is asked what came of it. */
export interface Writer {
  onProgress(listener: (progress: Pick<LedgerProgress, 'acknowledged' | 'lastAcknowledgedAt'>) => void): void;
  stop(): Promise<Account>;
}

/** The local cloud with the app deployed and hosts of one kind. */
export interface Stage {
  readonly local: LocalCloud<HostRuntime>;
  readonly watch: PromiseWatch;
  readonly database: string;
  readonly clock: Clock;
  connect(rate: number): Promise<Writer>;
  /** What is wrong with the database on a host, one sentence each. @param circumstances afterCrash: its last host was lost */
  diagnose(instanceId: string, circumstances: { readonly afterCrash: boolean }): Promise<string[]>;
  /** What the serving host has. @throws Error when this one does not serve */
  inspect(instanceId: string): Promise<HostFacts>;
  /**
   * Looks into a copy of a snapshot: the numbers of the client's rows that are in it.
   * @throws Error when no database starts from it
   */
  rowsIn(snapshotId: string): Promise<ReadonlySet<number>>;
  /** Puts random bytes into the client's table in a snapshot. */
  damage(snapshotId: string): Promise<void>;
  /** Ends everything and removes what it made, also in the middle of something. */
  close(): Promise<void>;
}

export interface StageOptions {
  readonly assembly: string;
  readonly database: string;
  readonly seed: number;
  readonly engine: DrillReport['engine'];
  /** For the engine `docker`: what containers are made of. */
  readonly image?: string;
  /** For the engine `modelled`: what is wrong with hosts. */
  readonly hostFaults?: ModelledHostsOptions['faults'];
  /** Aborted when the drill is to end early. */
  readonly signal: AbortSignal;
  /** Default: the real one, on which alone hosts are real. */
  readonly clock?: Clock;
}

/** The part of a stage that depends on the kind of its hosts. */
type Scenery = Pick<Stage, 'local' | 'connect' | 'diagnose' | 'inspect' | 'rowsIn' | 'damage'>;

const POLL_MS = 100;
const FIRST_BOOT_MS = 120_000;
/** Damage is done to the middle of a page of 8192 bytes, where its rows are. */
const DAMAGE_AT = 4096;
const DAMAGED_BYTES = 64;

/**
 * Deploys the app and lets the database come up for the first time; until then AWS takes no time.
 *
 * @throws Error when the database does not come up; then nothing is left behind
 */
export async function openStage(options: StageOptions): Promise<Stage> {
  const { database, engine, signal, clock = new RealClock() } = options;
  const opened = new AsyncDisposableStack();
  try {
    const scenery = await (engine === 'modelled' ? modelledScenery : realScenery)(options, clock, opened);
    const watch = new PromiseWatch(scenery.local, database);
    await unlessAborted(firstBoot(scenery.local, options), signal);
    return { ...scenery, watch, database, clock, close: () => opened.disposeAsync() };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

async function realScenery(
  { database, seed, image }: StageOptions,
  clock: Clock,
  opened: AsyncDisposableStack,
): Promise<Scenery> {
  const directory = directoryName();
  mkdirSync(directory, { mode: 0o700 });
  opened.defer(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, 'endpoint');
  const local = await createLocalCloud({
    clock,
    seed,
    hosts: async (cloud, endpoint) => {
      cloud.onHappening((happening) => recordTakeoverAgain(cloud, happening));
      const server = await EndpointServer.listen(endpoint, { path: socket });
      opened.defer(() => server.close());
      const random = cloud.random.fork('hosts');
      const hosts = await RealHosts.start({
        region: cloud.region,
        endpointSocket: socket,
        ...(image !== undefined && { image }),
        credentialsFor: ({ roleArn, instanceId }) => ({
          ...endpoint.issueCredentials({ roleArn, session: instanceId }),
          expiration: new Date(clock.now() + 6 * 3_600_000),
        }),
        latency: (name) => sampleLatency(name, random) * cloud.latencyScale,
        onOutput: (instanceId, line) => {
          cloud.record('output', instanceId, { line });
          const steps = parseSteps(line);
          if (steps.length > 0) cloud.record('takeover', instanceId, { steps });
        },
        onUserDataEnd: (instanceId, outcome) => {
          if (local.ec2.machine(instanceId)?.tags.get(ROLE_TAG) === SCRATCH_ROLE) {
            const failure = proofFailure(outcome);
            if (failure !== undefined) cloud.record('proof', instanceId, { failure });
            return;
          }
          const failure = takeoverFailure(outcome);
          if (failure !== undefined) cloud.record('takeover', instanceId, { steps: [], failure });
        },
      });
      opened.defer(() => hosts.close());
      return hosts;
    },
  });
  return {
    local,
    connect: async (ratePerSecond) => {
      const ledger = new Ledger();
      await ledger.start({
        onClient: (command) => local.hosts.onClient(command),
        address: addressOf(local),
        password: local.ssm.parameterValue(`/keeper/${database}/password`),
        ratePerSecond,
      });
      return {
        onProgress: (listener) => ledger.onProgress(listener),
        stop: async () => {
          const { acknowledged, lost, rows, gaps } = await ledger.stop();
          return { acknowledged, lost: lost.length, rows, gaps };
        },
      };
    },
    diagnose: async (instanceId, circumstances) => {
      const host = local.ec2.machine(instanceId)?.host;
      return host ? (await diagnose(host, circumstances)).map((what) => `${instanceId}: ${what}`) : [];
    },
    inspect: async (instanceId) => {
      const host = local.ec2.machine(instanceId)?.host;
      if (!host) throw new Error(`${instanceId} does not run`);
      return inspect(host);
    },
    rowsIn: async (snapshotId) => {
      const { sizeGiB, machine } = holderOf(local, database);
      const image = machine.tags.get(IMAGE_TAG) ?? '';
      return readCopy(local.hosts, { snapshotId, sizeGiB, image, like: machine.identity });
    },
    damage: async (snapshotId) => {
      const { host } = holderOf(local, database).machine;
      if (!host) throw new Error('the host that holds the volume does not run');
      const offset = await findPage(host, CLIENT_TABLE);
      const bytes = Buffer.from(local.cloud.random.fork('damage').hex(2 * DAMAGED_BYTES), 'hex');
      await local.hosts.damage(snapshotId, offset + DAMAGE_AT, bytes);
    },
  };
}

/** A host that has released the volume and gets it back takes over by itself; what it did stands in its own report alone. */
function recordTakeoverAgain(cloud: Cloud, { kind, subject, detail }: Happening): void {
  if (kind !== 'call' || subject !== 'ssm:PutParameter') return;
  const { Value } = detail['input'] as { Value: string };
  const [instanceId] = /^i-\w+(?= serves\n)/.exec(Value) ?? [];
  if (instanceId === undefined) return;
  const known = cloud.happenings
    .filter((happening) => happening.kind === 'takeover' && happening.subject === instanceId)
    .flatMap((happening) =>
      (happening.detail['steps'] as CommandStep[]).map(({ startedAtSeconds }) => startedAtSeconds),
    );
  const steps = parseSteps(Value).filter(({ startedAtSeconds }) => !known.includes(startedAtSeconds));
  if (steps.length > 0) cloud.record('takeover', instanceId, { steps });
}

/** Why a takeover that has ended did not succeed, in its own last words. */
function takeoverFailure({ exitCode, stdout, stderr }: Outcome): string | undefined {
  if (exitCode === 0 && /^keeper-step start-database /m.test(stdout)) return undefined;
  const words = stderr.trim().split('\n');
  const last = words.findLast((line) => line.startsWith('takeover: ')) ?? words.at(-1);
  return `exit code ${exitCode}${last ? `, ${last.replace(/^\S*\/part-001: |^takeover: /, '')}` : ', and it said nothing'}`;
}

/** Why a verification on a scratch host could not be done, in its own last words. */
function proofFailure({ exitCode, stderr }: Outcome): string | undefined {
  if (exitCode === 0) return undefined;
  const words = stderr.trim().split('\n');
  const last = words.findLast((line) => line.startsWith('prove: ')) ?? words.at(-1);
  return `exit code ${exitCode}${last ? `, ${last.replace(/^prove: /, '')}` : ', and it said nothing'}`;
}

async function modelledScenery(
  { database, seed, hostFaults }: StageOptions,
  clock: Clock,
  opened: AsyncDisposableStack,
): Promise<Scenery> {
  const local = await createLocalCloud({
    clock,
    seed,
    hosts: (cloud) => new ModelledHosts(cloud, hostFaults && { faults: hostFaults }),
  });
  opened.defer(() => local.hosts.close());
  return {
    local,
    connect: async (rate) => {
      const client = local.hosts.connectClient(addressOf(local), rate);
      let stopped = false;
      const report = async (listener: Parameters<Writer['onProgress']>[0]) => {
        for (let known = 0; !stopped; await clock.sleep(POLL_MS)) {
          const { acknowledged } = client.ledger();
          if (acknowledged > known) listener({ acknowledged, lastAcknowledgedAt: clock.now() });
          known = acknowledged;
        }
      };
      return {
        onProgress: (listener) => void report(listener),
        stop: async () => {
          stopped = true;
          return { ...client.ledger(), rows: client.rows() };
        },
      };
    },
    diagnose: async () => [],
    inspect: async () => {
      const volume = local.hosts.volume(local.ssm.parameterValue(`/keeper/${database}/volume-id`));
      return { fileSystemGiB: volume?.fileSystemGiB ?? 0 };
    },
    rowsIn: async (snapshotId) => local.hosts.rowsIn(snapshotId),
    damage: async (snapshotId) => local.hosts.damage(snapshotId, `random bytes in ${CLIENT_TABLE}`),
  };
}

/** @throws Error when the database does not come up */
async function firstBoot(local: LocalCloud<HostRuntime>, { assembly, database }: StageOptions): Promise<void> {
  const { cloud, events, states } = local;
  cloud.latencyScale = 0;
  events.pauseSchedules();
  await unlessItFails(cloud, local.deploy(assembly));
  for (const rule of events.rules.filter((name) => name.includes('EveryMinute'))) events.tick(rule);
  const first = () =>
    states.executions.find(
      ({ machine, name }) => machine.name.endsWith('-relocate') && name.startsWith(`${database}-`),
    );
  const serves = async () => {
    while ((first()?.status ?? 'RUNNING') === 'RUNNING') await cloud.clock.sleep(POLL_MS);
  };
  await unlessItFails(cloud, serves());
  if (first()?.status !== 'SUCCEEDED') throw new Error(doesNotComeUp(`${first()?.error}: ${first()?.cause}`));
  cloud.latencyScale = 1;
  events.resumeSchedules();
}

/** What the promise gives. @throws Error when the local cloud or a host fails meanwhile, or it takes too long */
async function unlessItFails<T>(cloud: Cloud, promise: Promise<T>): Promise<T> {
  const done = promise.then((value) => ({ value }));
  for (const end = cloud.clock.now() + FIRST_BOOT_MS; ; ) {
    const result = await Promise.race([done, cloud.clock.sleep(POLL_MS)]);
    if (result) return result.value;
    if (cloud.failure) throw cloud.failure;
    const failure = cloud.happenings.map(failureOf).find((what) => what !== undefined);
    if (failure !== undefined) throw new Error(doesNotComeUp(failure));
    if (cloud.clock.now() > end) {
      const outputs = cloud.happenings.filter(({ kind }) => kind === 'output').slice(-5);
      const said = outputs.map(({ subject, detail }) => `\n  ${subject}: ${detail['line']}`).join('');
      throw new Error(doesNotComeUp(`that takes longer than ${FIRST_BOOT_MS / 1000} s${said}`));
    }
  }
}

function doesNotComeUp(reason: string): string {
  return `the database does not come up for the first time: ${reason}`;
}

/** @throws Error when no host holds the volume */
function holderOf({ ec2, ssm }: LocalCloud<HostRuntime>, database: string) {
  const id = ssm.parameterValue(`/keeper/${database}/volume-id`);
  const volume = ec2.volumes().find(({ volumeId }) => volumeId === id);
  const machine = ec2.machine(volume?.attachment?.instanceId ?? '');
  if (!volume || !machine) throw new Error(`no host holds the volume ${id}`);
  return { sizeGiB: volume.sizeGiB, machine };
}

function addressOf({ cloud }: LocalCloud<HostRuntime>): string {
  const address = cloud.happenings.findLast(({ kind }) => kind === 'address')?.subject;
  if (!address) throw new Error('the database has no address');
  return address;
}
