import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RealClock } from './cloud/clock.ts';
import { sampleLatency } from './cloud/latencies.ts';
import { parseSteps } from './cloud/ssm.ts';
import { EndpointServer } from './cloud/wire/server.ts';
import type { HostRuntime } from './hosts/host.ts';
import { ModelledHosts } from './hosts/modelled.ts';
import { RealHosts } from './hosts/real.ts';
import { Ledger, type LedgerProgress } from './ledger/ledger.ts';
import { createLocalCloud, type LocalCloud } from './local-cloud.ts';
import { PromiseWatch } from './promises.ts';

/** What a client was told, and what is in the database. */
export interface Account {
  readonly acknowledged: number;
  readonly lost: number;
  /** Times without acknowledged commits, in milliseconds since the epoch. */
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
}

/** A client of the database that writes until it is asked what came of it. */
export interface Writer {
  onProgress(listener: (progress: Pick<LedgerProgress, 'acknowledged' | 'lastAcknowledgedAt'>) => void): void;
  stop(): Promise<Account>;
}

/** The local cloud in real time, with the app deployed and hosts of one kind. */
export interface Stage {
  readonly local: LocalCloud<HostRuntime>;
  readonly watch: PromiseWatch;
  readonly database: string;
  readonly clock: RealClock;
  connect(rate: number): Promise<Writer>;
  close(): Promise<void>;
}

export interface StageOptions {
  readonly assembly: string;
  readonly database: string;
  readonly seed: number;
  readonly engine: 'process' | 'modelled';
  /** What hosts print. */
  readonly onOutput?: (instanceId: string, line: string) => void;
}

/** Deploys the app and lets the database come up for the first time; until then AWS takes no time. */
export async function openStage(options: StageOptions): Promise<Stage> {
  return options.engine === 'process' ? openRealStage(options) : openModelledStage(options);
}

async function openRealStage({ assembly, database, seed, onOutput }: StageOptions): Promise<Stage> {
  const clock = new RealClock();
  const socket = join(tmpdir(), `keeper-endpoint-${process.pid}.sock`);
  const outputs = new Map<string, string[]>();
  let server: EndpointServer | undefined;
  const local = await createLocalCloud({
    clock,
    seed,
    hosts: async (cloud, endpoint) => {
      server = await EndpointServer.listen(endpoint, { path: socket });
      const random = cloud.random.fork('hosts');
      return RealHosts.start({
        region: cloud.region,
        endpointSocket: socket,
        credentialsFor: ({ roleArn, instanceId }) => ({
          ...endpoint.issueCredentials({ roleArn, session: instanceId }),
          expiration: new Date(clock.now() + 6 * 3_600_000),
        }),
        latency: (name) => sampleLatency(name, random) * cloud.latencyScale,
        onOutput: (instanceId, line) => {
          onOutput?.(instanceId, line);
          cloud.record('output', instanceId, { line });
          const steps = parseSteps(line);
          if (steps.length > 0) cloud.record('takeover', instanceId, { steps });
          outputs.set(instanceId, [...(outputs.get(instanceId) ?? []), line]);
        },
      });
    },
  });
  const watch = new PromiseWatch(local, database);
  const close = async () => {
    await local.hosts.close();
    await server?.close();
    rmSync(socket, { force: true });
  };
  try {
    await firstBoot(local, assembly);
  } catch (error) {
    const output = [...outputs].map(([host, lines]) => `${host}: ${lines.slice(-5).join('\n  ')}`).join('\n');
    await close();
    throw new Error(`${error instanceof Error ? error.message : error}\n${output}`, { cause: error });
  }
  const { hosts } = local;
  return {
    local,
    watch,
    database,
    clock,
    close,
    connect: async (ratePerSecond) => {
      const ledger = new Ledger();
      await ledger.start({
        onClient: (command) => hosts.onClient(command),
        address: addressOf(local),
        password: local.ssm.parameterValue(`/keeper/${database}/password`),
        ratePerSecond,
      });
      return {
        onProgress: (listener) => ledger.onProgress(listener),
        stop: async () => {
          const { acknowledged, lost, gaps } = await ledger.stop();
          return { acknowledged, lost: lost.length, gaps };
        },
      };
    },
  };
}

async function openModelledStage({ assembly, database, seed }: StageOptions): Promise<Stage> {
  const clock = new RealClock();
  const local = await createLocalCloud({ clock, seed, hosts: (cloud) => new ModelledHosts(cloud) });
  const watch = new PromiseWatch(local, database);
  await firstBoot(local, assembly);
  const { hosts } = local;
  return {
    local,
    watch,
    database,
    clock,
    close: () => hosts.close(),
    connect: async (rate) => {
      const client = hosts.connectClient(addressOf(local), rate);
      let stopped = false;
      const report = async (listener: Parameters<Writer['onProgress']>[0]) => {
        for (let known = 0; !stopped; await clock.sleep(100)) {
          const { acknowledged } = client.ledger();
          if (acknowledged > known) listener({ acknowledged, lastAcknowledgedAt: clock.now() });
          known = acknowledged;
        }
      };
      return {
        onProgress: (listener) => void report(listener),
        stop: async () => {
          stopped = true;
          return client.ledger();
        },
      };
    },
  };
}

const FIRST_BOOT_MS = 120_000;

/** @throws Error when the database does not come up */
async function firstBoot(local: LocalCloud<HostRuntime>, assembly: string): Promise<void> {
  const { cloud, events, states } = local;
  cloud.latencyScale = 0;
  events.pauseSchedules();
  await local.deploy(assembly);
  for (const rule of events.rules.filter((name) => name.includes('EveryMinute'))) events.tick(rule);
  const end = cloud.clock.now() + FIRST_BOOT_MS;
  for (;;) {
    if (cloud.failure) throw cloud.failure;
    const first = states.executions.find(({ machine }) => machine.name.endsWith('-relocate'));
    if (first?.status === 'SUCCEEDED') break;
    if (first && first.status !== 'RUNNING')
      throw new Error(`the database does not come up: ${first.error}: ${first.cause}`);
    if (cloud.clock.now() > end) throw new Error(`the database has not come up within ${FIRST_BOOT_MS / 1000} s`);
    await cloud.clock.sleep(100);
  }
  cloud.latencyScale = 1;
  events.resumeSchedules();
}

function addressOf({ cloud }: LocalCloud<HostRuntime>): string {
  const address = cloud.happenings.findLast(({ kind }) => kind === 'address')?.subject;
  if (!address) throw new Error('the database has no address');
  return address;
}
