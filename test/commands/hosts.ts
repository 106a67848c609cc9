import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Host, RunResult } from '../../drill/hosts/host.ts';
import { RealHosts } from '../../drill/hosts/real.ts';
import { readCommand } from '../../infra/command.ts';

export { readCommand as command } from '../../infra/command.ts';

/** Whether this machine can run hosts with real disks and a real PostgreSQL. */
export const canRunHosts = process.platform === 'linux' && process.getuid?.() === 0;

export const ADDRESS = '10.0.0.100';
export const PASSWORD_PARAMETER = '/keeper/lighthouse/password';
const IMAGE = 'timescale/timescaledb@sha256:0000';

/** An extension of this name with the views that TimescaleDB has, and something in them. */
export const TIMESCALEDB = `cd "$(echo /usr/share/postgresql/*/extension)"
echo "default_version = '2.19.3'" >timescaledb.control
cat >timescaledb--2.19.3.sql <<'SQL'
CREATE SCHEMA timescaledb_information;
CREATE VIEW timescaledb_information.hypertables AS SELECT 1 AS n;
CREATE VIEW timescaledb_information.chunks AS SELECT n % 2 = 0 AS is_compressed FROM generate_series(1, 5) n;
CREATE VIEW timescaledb_information.continuous_aggregates AS SELECT 1 AS n;
CREATE VIEW timescaledb_information.jobs AS SELECT n FROM generate_series(1, 3) n;
SQL`;

interface Call {
  readonly action: string;
  readonly input: Record<string, unknown>;
}

/** The two services that hosts call, as far as these tests need them: JSON 1.0/1.1 over a Unix socket. */
class FakeAws {
  readonly calls: Call[] = [];
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly parameters = new Map<string, string>();
  readonly #server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      const action = String(request.headers['x-amz-target']).split('.')[1] ?? '';
      const input = JSON.parse(body) as Record<string, unknown>;
      this.calls.push({ action, input });
      this.#events.emit('call', { action, input });
      const { status, answer } = this.#answer(action, input);
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(JSON.stringify(answer));
    });
  });

  /** Resolves with the next call of this action. */
  called(action: string): Promise<Call> {
    return this.#next((call) => call.action === action);
  }

  /** Resolves with the call that ends the task. */
  ended(taskToken: string): Promise<Call> {
    const ends = ['SendTaskSuccess', 'SendTaskFailure'];
    return this.#next(({ action, input }) => ends.includes(action) && input['taskToken'] === taskToken);
  }

  #next(matches: (call: Call) => boolean): Promise<Call> {
    return new Promise((resolve) => {
      const look = (call: Call) => {
        if (!matches(call)) return;
        this.#events.off('call', look);
        resolve(call);
      };
      this.#events.on('call', look);
    });
  }

  #answer(action: string, input: Record<string, unknown>): { status: number; answer: unknown } {
    const name = String(input['Name']);
    if (action === 'PutParameter') {
      if (this.parameters.has(name) && input['Overwrite'] !== true) {
        return { status: 400, answer: { __type: 'ParameterAlreadyExists', message: 'The parameter already exists.' } };
      }
      this.parameters.set(name, String(input['Value']));
    }
    const value = this.parameters.get(name);
    return { status: 200, answer: action === 'GetParameter' ? { Parameter: { Name: name, Value: value } } : {} };
  }

  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(path, resolve));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Hosts, a fake of what they call, and what their user data printed. */
export class Stage {
  readonly aws = new FakeAws();
  readonly hosts: RealHosts;
  /** Where the socket of the fake is. */
  readonly directory: string;
  readonly #output = new Map<string, string[]>();
  readonly #waiting = new Set<() => void>();
  #made = 0;

  private constructor(hosts: RealHosts, directory: string) {
    this.hosts = hosts;
    this.directory = directory;
  }

  static async open(): Promise<Stage> {
    const directory = mkdtempSync(join(tmpdir(), 'keeper-test-'));
    let stage: Stage | undefined;
    const hosts = await RealHosts.start({
      region: 'us-east-1',
      endpointSocket: `${directory}/aws`,
      credentialsFor: () => ({
        accessKeyId: 'ASIATEST',
        secretAccessKey: 'secret',
        sessionToken: 'token',
        expiration: new Date(Date.now() + 3_600_000),
      }),
      latency: () => 0,
      onOutput: (instanceId, line) => stage?.hear(instanceId, line),
    });
    stage = new Stage(hosts, directory);
    await stage.aws.listen(`${directory}/aws`);
    return stage;
  }

  async close(): Promise<void> {
    await this.hosts.close();
    await this.aws.close();
    rmSync(this.directory, { recursive: true });
  }

  hear(instanceId: string, line: string): void {
    this.output(instanceId).push(line);
    for (const look of this.#waiting) look();
  }

  output(instanceId: string): string[] {
    const lines = this.#output.get(instanceId) ?? [];
    this.#output.set(instanceId, lines);
    return lines;
  }

  /** Resolves with the first line of the host's user data that matches. */
  said(instanceId: string, pattern: RegExp): Promise<string> {
    return new Promise((resolve) => {
      const look = () => {
        const line = this.output(instanceId).find((candidate) => pattern.test(candidate));
        if (line === undefined) return;
        this.#waiting.delete(look);
        resolve(line);
      };
      this.#waiting.add(look);
      look();
    });
  }

  async volume(): Promise<string> {
    const volumeId = `vol-${(this.#made++).toString(16).padStart(17, '0')}`;
    await this.hosts.createVolume({ volumeId, sizeGiB: 8 });
    return volumeId;
  }

  /** A volume with the content of the snapshot. */
  async clone(snapshotId: string): Promise<string> {
    const volumeId = `vol-${(this.#made++).toString(16).padStart(17, '0')}`;
    await this.hosts.createVolume({ volumeId, sizeGiB: 8 }, snapshotId);
    return volumeId;
  }

  /**
   * Boots a scratch host with these volumes, as the launcher does.
   *
   * @returns how the task ends that waits for it
   */
  async prove(
    volumeIds: readonly string[],
    extra: Readonly<Record<string, string>> = {},
    script = readCommand('prove'),
  ): Promise<{ host: TestHost; answer: Promise<Call> }> {
    const host = await this.host();
    for (const volumeId of volumeIds) await host.host.attach({ volumeId, sizeGiB: 8 });
    const taskToken = `proof by ${host.instanceId}`;
    const answer = this.aws.ended(taskToken);
    const environment = {
      KEEPER_DATABASE: 'lighthouse',
      KEEPER_REGION: 'us-east-1',
      KEEPER_IMAGE: IMAGE,
      KEEPER_TASK_TOKEN: taskToken,
      KEEPER_CENSUS: '',
      KEEPER_LEVEL: 'full',
      ...extra,
    };
    host.host.boot(withExports(script, environment));
    return { host, answer };
  }

  /** A host that serves a new database. */
  async serving(extra: Readonly<Record<string, string>> = {}): Promise<{ host: TestHost; volumeId: string }> {
    const volumeId = await this.volume();
    const host = await this.host();
    await host.arm(volumeId, { KEEPER_FORMAT_BLANK: 'true', ...extra });
    await host.receive(volumeId);
    return { host, volumeId };
  }

  async host(instanceType = 't4g.small'): Promise<TestHost> {
    const number = this.#made++;
    const instanceId = `i-${number.toString(16).padStart(17, '0')}`;
    const privateIp = `10.0.0.${10 + number}`;
    const host = await this.hosts.createHost({
      instanceId,
      instanceType,
      zone: 'us-east-1a',
      privateIp,
      macAddress: `02:11:22:33:44:${(16 + number).toString(16)}`,
      interfaceId: `eni-${number.toString(16).padStart(17, '0')}`,
      roleArn: 'arn:aws:iam::123456789012:role/keeper-host',
    });
    return new TestHost(this, instanceId, privateIp, host);
  }
}

/** A command as user data: the launcher inserts these below its first line. */
function withExports(script: string, environment: Readonly<Record<string, string>>): string {
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'`);
  return script.replace('\n', `\n${exports.join('\n')}\n`);
}

export class TestHost {
  readonly stage: Stage;
  readonly instanceId: string;
  readonly privateIp: string;
  readonly host: Host;

  constructor(stage: Stage, instanceId: string, privateIp: string, host: Host) {
    this.stage = stage;
    this.instanceId = instanceId;
    this.privateIp = privateIp;
    this.host = host;
  }

  /** Boots it as the launcher does. */
  takeOver(volumeId: string, extra: Readonly<Record<string, string>> = {}): void {
    const environment = {
      KEEPER_DATABASE: 'lighthouse',
      KEEPER_REGION: 'us-east-1',
      KEEPER_ADDRESS: ADDRESS,
      KEEPER_IMAGE: IMAGE,
      KEEPER_PASSWORD_PARAMETER: PASSWORD_PARAMETER,
      KEEPER_VOLUME_ID: volumeId,
      KEEPER_FORMAT_BLANK: 'false',
      ...extra,
    };
    this.host.boot(withExports(readCommand('takeover'), environment));
  }

  /** Boots it; resolves when it waits for the volume. */
  async arm(volumeId: string, extra: Readonly<Record<string, string>> = {}): Promise<void> {
    this.takeOver(volumeId, extra);
    await this.said(/^takeover: lighthouse waits for/);
  }

  get output(): readonly string[] {
    return this.stage.output(this.instanceId);
  }

  /** The volume's device, as an environment for {@link run}. */
  device(volumeId: string): Record<string, string> {
    return { DEVICE: `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volumeId.replace('-', '')}` };
  }

  said(pattern: RegExp): Promise<string> {
    return this.stage.said(this.instanceId, pattern);
  }

  /** The volume and the address arrive; resolves when the database serves. */
  async receive(volumeId: string): Promise<void> {
    await this.host.attach({ volumeId, sizeGiB: 8 });
    await this.host.setAddresses([this.privateIp, ADDRESS]);
    await this.said(/^keeper-step start-database/);
    // It has ended when it holds its lock no longer.
    await this.run('until [[ -s /run/keeper/report ]]; do sleep 0.05; done; flock /run/keeper/lock true', {}, 20);
  }

  run(script: string, environment: Readonly<Record<string, string>> = {}, timeoutSeconds = 60): Promise<RunResult> {
    return this.host.run({ document: 'test', script: `#!/bin/bash\n${script}`, environment, timeoutSeconds });
  }

  release(volumeId: string): Promise<RunResult> {
    return this.run(readCommand('release'), { SSM_volumeId: volumeId });
  }

  /** The volume, which it has released, goes; resolves when it waits for it again. */
  async lose(volumeId: string): Promise<void> {
    if ((await this.host.detach(volumeId)) === 'busy') throw new Error(`${this.instanceId} still uses ${volumeId}`);
    await this.run('while [[ -e /var/lib/keeper/released ]]; do sleep 0.02; done', {}, 20);
  }

  sql(statement: string, database = 'postgres'): Promise<RunResult> {
    const psql = 'psql -X -A -t -q -v ON_ERROR_STOP=1 -U postgres -c "$STATEMENT"';
    return this.run(`docker exec --env PGDATABASE="$DATABASE" keeper-postgres ${psql}`, {
      DATABASE: database,
      STATEMENT: statement,
    });
  }

  census(id: string): Promise<RunResult> {
    return this.run(readCommand('census'), { SSM_census: id });
  }
}
