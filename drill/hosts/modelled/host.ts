import { instanceType } from '../../cloud/ec2/instance-types.ts';
import { AwsError, type Cloud, NotModelled, type ServiceName, type Shape } from '../../cloud/kernel.ts';
import type { Random } from '../../cloud/random.ts';
import type { GuestVolume, Host, HostIdentity, RunResult, RunScript } from '../host.ts';
import { countRows, type Disk } from './disk.ts';
import {
  Checks,
  censusFinding,
  directoryFinding,
  mountFinding,
  type Proof,
  pagesFinding,
  rowsFinding,
} from './proof.ts';
import { ScriptFailed, Shell, ShellEnded, type Step } from './shell.ts';
import {
  CENSUS,
  CHECKPOINT,
  CLI_ATTEMPTS,
  CLONE_TIMEOUT_MS,
  CREATE_CONTAINER,
  DEVICE_POLL_MS,
  DOCKER_STOP_TIMEOUT_MS,
  FINAL_CHECKPOINT_TIMEOUT_MS,
  FORMAT,
  GROW_FILE_SYSTEM,
  GROW_POLL_MS,
  GROW_WAIT_MS,
  HEARTBEAT_MS,
  INITDB,
  MOUNT,
  READ_GIB,
  REPORT_RELEASED_AFTER_MS,
  REPORT_TIMEOUT_MS,
  SLOW_BOOT_MS,
  START_CLEAN,
  START_RECOVERING,
  STOP_DATABASE,
  UNMOUNT,
  UNMOUNT_TIMEOUT_MS,
  WATCHDOG_MS,
  WRITE,
} from './timings.ts';
import { isProof, type ProofVariables, readProofVariables, readUserData, type TakeoverVariables } from './user-data.ts';

/** What can be wrong with one host. */
export type HostFault =
  /** Three minutes pass before the user data begins. */
  | 'slowBoot'
  | 'dockerInstallFails'
  | 'imagePullFails'
  /** The file system of the volume cannot be mounted on this host. */
  | 'mountFails'
  /** The whole guest freezes right after it has mounted the volume. */
  | 'hangsDuringTakeover'
  | 'postgresDoesNotStart'
  /** PostgreSQL does not start when the volume, which this host has released, comes back to it. */
  | 'takeoverAgainFails'
  /** PostgreSQL does not react; `docker stop` kills it after its 120 s. */
  | 'dockerStopHangs'
  | 'umountHangs'
  /** prove.sh stands still after it has mounted the clone: no heartbeat comes any more, and no report. */
  | 'proofHangs'
  /** prove.sh cannot look at the clone, for a reason that lies in the host. */
  | 'cannotVerify';

/** What the machines share: the volumes, the clients, and the notes about broken promises. */
export interface Datacentre {
  disk(volumeId: string): Disk;
  /** To be called before anything changes that decides what serves an address. */
  settle(): void;
  brokenPromise(subject: string, what: string): void;
  /** Whether a volume other than this one holds the data directory of the database. */
  livesElsewhere(database: string, volumeId: string): boolean;
}

/** What all modelled servers say. */
const SERVER_VERSION = '15.0';
/** From census.sh. */
const KEPT_CENSUSES = 3;

type PostgresState = 'stopped' | 'starting' | 'ready' | 'stopping';

/** A machine without processes that does what takeover.sh and the commands do. */
export class ModelledHost implements Host {
  readonly identity: HostIdentity;
  readonly #cloud: Cloud;
  readonly #random: Random;
  readonly #datacentre: Datacentre;
  readonly #faults: ReadonlySet<HostFault>;
  readonly #devices = new Set<string>();
  #power: 'on' | 'hung' | 'off' = 'on';
  #onDeviceChange: (() => void)[] = [];
  #delivered: readonly string[] = [];
  #ownAddress: string | undefined;
  #mounted: Disk | undefined;
  #postgres: PostgresState = 'stopped';
  #exitCode = 0;
  #stopping: Promise<void> | undefined;
  #userData: string | undefined;
  /** The takeover that is at work; of two, the second waits for the first to end. */
  #takingOver: Promise<void> | undefined;
  #takeovers = 0;
  /** The volume was released here, and has not gone since. */
  #released = false;
  #takeoverSteps: readonly Step[] = [];
  #takeoverFailure: string | undefined;

  constructor(cloud: Cloud, datacentre: Datacentre, identity: HostIdentity, faults: readonly HostFault[]) {
    this.#cloud = cloud;
    this.#datacentre = datacentre;
    this.identity = identity;
    this.#faults = new Set(faults);
    this.#random = cloud.random.fork(identity.instanceId);
  }

  boot(userData: string): void {
    if (!this.#runs) return;
    if (isProof(userData)) {
      this.#startProof(userData);
      return;
    }
    this.#userData = userData;
    this.#startTakeover(userData);
  }

  async attach({ volumeId }: GuestVolume): Promise<void> {
    this.#devices.add(volumeId);
    this.#tellOfDevices();
  }

  async detach(volumeId: string): Promise<'detached' | 'busy'> {
    if (this.#power === 'hung' || this.#mounted?.volumeId === volumeId) return 'busy';
    this.#devices.delete(volumeId);
    this.#tellOfDevices();
    return 'detached';
  }

  async setAddresses(addresses: readonly string[]): Promise<void> {
    this.#datacentre.settle();
    this.#delivered = addresses;
  }

  /** A machine that hangs or has ended never answers. */
  run(script: RunScript): Promise<RunResult> {
    if (!this.#runs) return new Promise(() => {});
    const shell = this.#startShell();
    return new Promise((resolve) => {
      const answer = (exitCode: number, timedOut: boolean) =>
        resolve({ exitCode, timedOut, stdout: lines(shell.stdout), stderr: lines(shell.stderr) });
      const timeout = this.#cloud.clock.after(script.timeoutSeconds * 1000, () => {
        shell.kill();
        if (this.#runs) answer(137, true);
      });
      this.#command(shell, script).then(
        () => {
          timeout.cancel();
          answer(0, false);
        },
        (error: Error) => {
          if (error instanceof ShellEnded) return;
          timeout.cancel();
          if (!(error instanceof ScriptFailed)) this.#cloud.fail(error);
          shell.stderr.push(error.message);
          answer(error instanceof ScriptFailed ? error.exitCode : 1, false);
        },
      );
    });
  }

  async shutdown(how: 'os' | 'hard'): Promise<void> {
    if (how === 'os' && this.#runs && this.#postgres !== 'stopped') await Promise.allSettled([this.#dockerStop()]);
    this.#datacentre.settle();
    this.#power = 'off';
    this.#letGo();
    this.#devices.clear();
    this.#mounted = undefined;
    this.#delivered = [];
  }

  /** Fault: the guest freezes. It answers nothing, serves nothing, and keeps its volume until the machine ends. */
  hang(): void {
    this.#datacentre.settle();
    this.#power = 'hung';
    this.#letGo();
    this.#cloud.record('guest', this.identity.instanceId, { state: 'hung' });
  }

  /** The disk on which this host serves the address, if it does. */
  serves(address: string): Disk | undefined {
    const reachable = this.#delivered.includes(address) && this.#ownAddress === address;
    return reachable && this.#postgres === 'ready' ? this.#mounted : undefined;
  }

  get #runs(): boolean {
    return this.#power === 'on';
  }

  #startShell(): Shell {
    return new Shell(this.#cloud, () => this.#runs);
  }

  #tellOfDevices(): void {
    for (const tell of this.#onDeviceChange.splice(0)) tell();
  }

  #between([low, high]: readonly [number, number]): number {
    return low + this.#random.next() * (high - low);
  }

  #setPostgres(state: PostgresState, how: string = state): void {
    if (this.#postgres === state) return;
    this.#datacentre.settle();
    this.#postgres = state;
    this.#cloud.record('postgres', this.identity.instanceId, { state: how, volumeId: this.#mounted?.volumeId });
  }

  /** PostgreSQL is gone without having shut down. */
  #letGo(): void {
    this.#mounted?.writers.delete(this.identity.instanceId);
    this.#setPostgres('stopped', 'killed');
  }

  // takeover.sh

  #startTakeover(userData: string): void {
    const shell = this.#startShell();
    this.#takingOver = this.#takeover(shell, userData).catch((error: Error) => {
      if (!(error instanceof ShellEnded)) this.#cloud.fail(error);
    });
    void this.#takingOver.then(() => {
      this.#takingOver = undefined;
    });
  }

  /** The volume may come back to a host that has released it. */
  async #takeOverAgain(): Promise<void> {
    while (this.#takingOver) await this.#takingOver;
    if (this.#runs && this.#released && this.#userData !== undefined) this.#startTakeover(this.#userData);
  }

  async #takeover(shell: Shell, userData: string): Promise<void> {
    let token: string | undefined;
    let database = '';
    let volumeId = '';
    this.#takeovers++;
    this.#takeoverSteps = [];
    this.#takeoverFailure = undefined;
    try {
      const variables = readUserData(userData);
      ({ taskToken: token, database, volumeId } = variables);
      if (this.#released) {
        token = undefined;
        await this.#leaveReleasedVolume(shell, variables);
      } else if (this.#faults.has('slowBoot')) {
        await shell.pause(SLOW_BOOT_MS);
      }
      await this.#arm(shell);
      if (token !== undefined && (await this.#reportArmed(shell, token))) token = undefined;
      shell.step('report-armed');
      await this.#waitForVolume(shell, variables.volumeId);
      shell.step('wait-for-volume');
      await this.#serve(shell, variables);
      this.#takeoverSteps = shell.steps;
      this.#cloud.record('takeover', this.identity.instanceId, { steps: shell.steps });
      const steps = shell.stdout.filter((line) => line.startsWith('keeper-step '));
      const report = [...steps, `keeper-settings ${this.#settings()}`].join('\n');
      await this.#reportTakeover(shell, variables, 'serves', report);
      if (this.#mounted?.volumeId === volumeId) growFileSystem(this.#mounted);
    } catch (error) {
      if (!(error instanceof ScriptFailed)) throw error;
      this.#takeoverSteps = shell.steps;
      this.#takeoverFailure = error.message;
      this.#cloud.record('takeover', this.identity.instanceId, { steps: shell.steps, failure: error.message });
      if (token !== undefined) await this.#reportFailure(shell, token, error.message);
      await this.#reportTakeover(shell, { database, volumeId }, 'failed', error.message);
    }
  }

  async #reportTakeover(
    shell: Shell,
    { database, volumeId }: Pick<TakeoverVariables, 'database' | 'volumeId'>,
    outcome: 'serves' | 'failed',
    text: string,
  ): Promise<void> {
    // Another host's takeover is what counts.
    if (!this.#devices.has(volumeId) || this.#released) return;
    await this.#report(shell, database, outcome, text);
  }

  async #report(shell: Shell, database: string, outcome: string, text: string): Promise<void> {
    const { instanceId } = this.identity;
    const Value = `${instanceId} ${outcome}\n${text}\n`;
    const put = this.#awsCall('ssm', 'PutParameter', {
      Name: `/keeper/${database}/takeover`,
      Type: 'String',
      Value,
      Overwrite: true,
    });
    const failed = (error: Error) => {
      if (!(error instanceof AwsError)) throw error;
    };
    await shell.waitFor(Promise.race([put.then(() => {}, failed), this.#cloud.clock.sleep(REPORT_TIMEOUT_MS)]));
  }

  /** As the script sets them, for the memory of this machine. */
  #settings(): string {
    const { memoryMiB } = instanceType(this.identity.instanceType);
    const [workMem, connections] = memoryMiB > 1500 ? [16, 100] : [8, 50];
    return [
      `shared_buffers=${Math.floor(memoryMiB / 4)}MB`,
      `effective_cache_size=${Math.floor((memoryMiB * 3) / 4)}MB`,
      `maintenance_work_mem=${Math.min(Math.floor(memoryMiB / 16), 2047)}MB`,
      `work_mem=${workMem}MB`,
      `max_connections=${connections}`,
    ].join(' ');
  }

  async #arm(shell: Shell): Promise<void> {
    const { instanceId } = this.identity;
    const again = this.#takeovers > 1;
    if (!again) await shell.pause(this.#cloud.latency('host.installDocker', instanceId));
    if (this.#faults.has('dockerInstallFails')) throw new ScriptFailed(1, 'Docker could not be installed with dnf');
    shell.step('install-docker');
    if (!again) await shell.pause(this.#cloud.latency('host.pullImage', instanceId));
    if (this.#faults.has('imagePullFails')) throw new ScriptFailed(1, 'the image could not be pulled');
    shell.step('pull-image');
    await shell.pause(this.#between(CREATE_CONTAINER));
    shell.step('create-container');
  }

  async #reportArmed(shell: Shell, taskToken: string): Promise<boolean> {
    const output = JSON.stringify({ instanceId: this.identity.instanceId });
    return this.#reportToTask(shell, 'SendTaskSuccess', { taskToken, output });
  }

  async #reportFailure(shell: Shell, taskToken: string, cause: string): Promise<void> {
    await this.#reportToTask(shell, 'SendTaskFailure', { taskToken, error: 'TakeoverFailed', cause });
  }

  async #reportToTask(shell: Shell, operation: string, input: Shape): Promise<boolean> {
    const report = this.#awsCall('states', operation, input).then(
      () => true,
      (error: Error) => {
        if (!(error instanceof AwsError)) throw error;
        return false;
      },
    );
    const timeout = this.#cloud.clock.sleep(REPORT_TIMEOUT_MS).then(() => false);
    return shell.waitFor(Promise.race([report, timeout]));
  }

  /** As the AWS CLI calls in its standard retry mode: three attempts in all where AWS is busy or broken. */
  async #awsCall(service: ServiceName, operation: string, input: Shape): Promise<Shape> {
    const caller = { roleArn: this.identity.roleArn, session: this.identity.instanceId };
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#cloud.call({ service, operation, input, caller });
      } catch (error) {
        if (!(error instanceof AwsError) || !isPassing(error) || attempt === CLI_ATTEMPTS) throw error;
        await this.#cloud.clock.sleep(this.#random.next() * 2 ** (attempt - 1) * 1000);
      }
    }
  }

  async #leaveReleasedVolume(shell: Shell, { database, volumeId }: TakeoverVariables): Promise<void> {
    const isGone = () => !this.#devices.has(volumeId);
    const gone = this.#untilDevice(shell, isGone);
    await shell.waitFor(Promise.race([gone, this.#cloud.clock.sleep(REPORT_RELEASED_AFTER_MS)]));
    if (!isGone()) await this.#report(shell, database, 'released', `${volumeId} was not taken away`);
    await gone;
    this.#released = false;
    shell.begin();
  }

  async #waitForVolume(shell: Shell, volumeId: string): Promise<void> {
    await this.#untilDevice(shell, () => this.#devices.has(volumeId));
  }

  async #untilDevice(shell: Shell, isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await shell.waitFor(new Promise<void>((resolve) => this.#onDeviceChange.push(resolve)));
      await shell.pause(this.#random.next() * DEVICE_POLL_MS);
    }
  }

  async #serve(shell: Shell, variables: TakeoverVariables): Promise<void> {
    const { volumeId, database, address } = variables;
    const { content } = this.#datacentre.disk(volumeId);
    const firstStart = await this.#mount(shell, variables);
    shell.step('mount');
    if (this.#faults.has('hangsDuringTakeover')) {
      this.hang();
      await shell.pause(0);
    }
    if (firstStart) {
      if (this.#datacentre.livesElsewhere(database, volumeId))
        this.#datacentre.brokenPromise(volumeId, `${database} was given an empty volume in place of its own`);
      await shell.pause(this.#between(INITDB));
      content.database = database;
      content.cleanlyShutDown = true;
      await this.#startDatabase(shell);
      content.initialising = false;
      shell.step('first-start');
      this.#setOwnAddress(address);
    } else {
      this.#setOwnAddress(address);
      await this.#startDatabase(shell);
    }
    shell.step('start-database');
  }

  /** @returns whether the first start of this volume's database is still to come */
  async #mount(shell: Shell, variables: TakeoverVariables): Promise<boolean> {
    const { volumeId, database, formatBlank } = variables;
    const disk = this.#datacentre.disk(volumeId);
    const { content } = disk;
    if (formatBlank && !content.formatted) {
      await shell.pause(this.#between(FORMAT));
      content.formatted = true;
      growFileSystem(disk);
    }
    await shell.pause(this.#between(MOUNT));
    if (!content.formatted || this.#faults.has('mountFails'))
      throw new ScriptFailed(1, `${volumeId} cannot be mounted`);
    if (!this.#devices.has(volumeId)) throw new ScriptFailed(1, `${volumeId} cannot be mounted: its device is gone`);
    if (content.database !== undefined && content.database !== database)
      this.#datacentre.brokenPromise(volumeId, `${database} mounted the volume of ${content.database}`);
    this.#mounted = disk;
    if (content.database !== undefined && !content.initialising) return false;
    if (formatBlank && content.database === undefined) content.initialising = true;
    if (!content.initialising)
      throw new ScriptFailed(1, `${volumeId} holds no PostgreSQL data directory and is not new`);
    await this.#providePassword(shell, variables.passwordParameter);
    return true;
  }

  async #providePassword(shell: Shell, name: string): Promise<void> {
    const put = { Name: name, Type: 'SecureString', Value: this.#random.hex(32) };
    try {
      await shell.waitFor(this.#awsCall('ssm', 'PutParameter', put));
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (error.code !== 'ParameterAlreadyExists')
        throw new ScriptFailed(1, `the password could not be stored: ${error.message}`);
      await this.#readPassword(shell, name);
    }
  }

  async #readPassword(shell: Shell, name: string): Promise<void> {
    try {
      await shell.waitFor(this.#awsCall('ssm', 'GetParameter', { Name: name, WithDecryption: true }));
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      throw new ScriptFailed(1, `the password in ${name} could not be read: ${error.message}`);
    }
  }

  #setOwnAddress(address: string | undefined): void {
    this.#datacentre.settle();
    this.#ownAddress = address;
  }

  async #startDatabase(shell: Shell): Promise<void> {
    const disk = this.#mounted;
    // The container's bind mount has no source while the volume is not mounted.
    if (!disk) throw new ScriptFailed(1, 'the container does not start: /data/pgdata does not exist');
    const { content, writers } = disk;
    if (writers.size > 0) {
      const hosts = [...writers, this.identity.instanceId].join(' and ');
      this.#datacentre.brokenPromise(disk.volumeId, `two PostgreSQL servers on one volume: ${hosts}`);
    }
    writers.add(this.identity.instanceId);
    const takes = this.#between(content.cleanlyShutDown ? START_CLEAN : START_RECOVERING);
    this.#exitCode = 0;
    this.#setPostgres('starting');
    content.cleanlyShutDown = false;
    await shell.pause(takes);
    if (this.#postgres !== 'starting') throw new ScriptFailed(1, 'PostgreSQL ended while starting');
    if (this.#faults.has('postgresDoesNotStart') || (this.#faults.has('takeoverAgainFails') && this.#takeovers > 1)) {
      this.#exitCode = 1;
      this.#letGo();
      throw new ScriptFailed(1, 'PostgreSQL ended while starting');
    }
    this.#setPostgres('ready');
  }

  // prove.sh

  #startProof(userData: string): void {
    this.#cloud.clock.after(WATCHDOG_MS, () => {
      if (this.#runs) this.#cloud.record('guest', this.identity.instanceId, { state: 'off' });
    });
    this.#prove(this.#startShell(), userData).catch((error: Error) => {
      if (!(error instanceof ShellEnded)) this.#cloud.fail(error);
    });
  }

  async #prove(shell: Shell, userData: string): Promise<void> {
    const began = this.#cloud.clock.now();
    let taskToken: string | undefined;
    let pulse: Shell | undefined;
    try {
      const variables = readProofVariables(userData);
      taskToken = variables.taskToken;
      if (this.#faults.has('slowBoot')) await shell.pause(SLOW_BOOT_MS);
      pulse = this.#startHeartbeats(taskToken);
      const disk = await this.#findClone(shell);
      await this.#arm(shell);
      if (this.#faults.has('cannotVerify')) throw new ScriptFailed(1, 'this host cannot verify anything');
      const found = await this.#verifyClone(shell, variables, disk, pulse);
      const proof = { ...found, seconds: (this.#cloud.clock.now() - began) / 1000 };
      this.#cloud.record('proof', this.identity.instanceId, proof);
      await this.#reportToTask(shell, 'SendTaskSuccess', { taskToken, output: JSON.stringify(proof) });
    } catch (error) {
      if (!(error instanceof ScriptFailed)) throw error;
      if (taskToken === undefined) return;
      const report = { taskToken, error: 'CannotVerify', cause: error.message };
      await this.#reportToTask(shell, 'SendTaskFailure', report);
    } finally {
      pulse?.kill();
    }
  }

  /** Until the shell that it returns is killed. */
  #startHeartbeats(taskToken: string): Shell {
    const pulse = this.#startShell();
    const beat = async () => {
      for (;;) {
        await pulse.pause(HEARTBEAT_MS);
        await this.#reportToTask(pulse, 'SendTaskHeartbeat', { taskToken });
      }
    };
    beat().catch((error: Error) => {
      if (!(error instanceof ShellEnded)) this.#cloud.fail(error);
    });
    return pulse;
  }

  /** The script knows its clone by being the only volume beside the root. */
  async #findClone(shell: Shell): Promise<Disk> {
    if (this.#devices.size === 0) await shell.pause(CLONE_TIMEOUT_MS);
    const [volumeId, ...others] = this.#devices;
    if (volumeId === undefined)
      throw new ScriptFailed(1, `no clone was attached to this host within ${CLONE_TIMEOUT_MS / 1000} s`);
    if (others.length > 0) throw new ScriptFailed(1, 'more than one volume is attached to this host');
    return this.#datacentre.disk(volumeId);
  }

  async #verifyClone(
    shell: Shell,
    { database, census, level }: ProofVariables,
    disk: Disk,
    pulse: Shell,
  ): Promise<Omit<Proof, 'seconds'>> {
    const { content, sizeGiB } = disk;
    const checks = new Checks(this.#cloud.clock);
    const check = (name: string, good: string, takesMs: number, find: () => string | undefined) =>
      checks.run(name, good, async () => {
        await shell.pause(takesMs);
        return find();
      });
    const aQuery = () => this.#between(WRITE);
    const usable =
      (await check('mount', 'the file system was mounted', this.#between(MOUNT), () => this.#mountClone(disk))) &&
      (await check('data-directory', 'it is of the PostgreSQL in the image, and has data checksums', aQuery(), () =>
        directoryFinding(content, database),
      ));
    if (this.#faults.has('proofHangs')) {
      pulse.kill();
      await shell.waitFor(new Promise<never>(() => {}));
    }
    const recovered =
      usable &&
      (await checks.run('recovery', 'PostgreSQL replayed the WAL and accepts connections', () =>
        this.#startClone(shell),
      ));
    const recovery = checks.all.at(-1);
    if (recovered) {
      await check('catalog', '1 databases can be connected to, and their catalogs read', aQuery(), () => undefined);
      await check('census', censusDetail(census), aQuery(), () =>
        census === '' ? undefined : censusFinding(content, census),
      );
      await check('timescaledb', 'no database has TimescaleDB', aQuery(), () => undefined);
    }
    if (recovered && level === 'full') {
      await check('pages', 'every page matches its checksum', this.#between(READ_GIB) * sizeGiB, () =>
        pagesFinding(content),
      );
      if (census !== '')
        await check('rows', 'every table has the rows of the census', aQuery(), () => rowsFinding(content, census));
    }
    return {
      ok: checks.passed,
      level,
      checks: checks.all,
      censusTakenAt: (recovered && content.censuses.find(({ id }) => id === census)?.takenAt) || null,
      serverVersion: recovered ? SERVER_VERSION : null,
      timescaledb: null,
      recoverySeconds: (recovered && recovery?.seconds) || null,
      bytesRead: recovered && level === 'full' ? sizeGiB * 2 ** 30 : 0,
    };
  }

  #mountClone(disk: Disk): string | undefined {
    if (this.#faults.has('mountFails')) return 'the volume has no XFS file system that can be mounted';
    const finding = mountFinding(disk.content);
    if (finding === undefined) this.#mounted = disk;
    return finding;
  }

  async #startClone(shell: Shell): Promise<string | undefined> {
    try {
      await this.#startDatabase(shell);
      return undefined;
    } catch (error) {
      if (!(error instanceof ScriptFailed)) throw error;
      return `PostgreSQL does not start from it: ${error.message}`;
    }
  }

  // The commands

  async #command(shell: Shell, { document, environment }: RunScript): Promise<void> {
    if (document.endsWith('checkpoint')) return this.#checkpoint(shell, Number(environment['SSM_seconds']) * 1000);
    if (document.endsWith('grow'))
      return this.#grow(shell, environment['SSM_volumeId'], Number(environment['SSM_sizeGiB']));
    if (document.endsWith('update-extension')) return this.#updateExtension(shell);
    if (document.endsWith('census')) return this.#census(shell, environment['SSM_census']);
    if (document.endsWith('release')) return this.#release(shell, environment['SSM_volumeId']);
    if (document.endsWith('verify')) return this.#verify(shell, environment['SSM_volumeId']);
    throw new NotModelled(`modelled hosts do not know what the document ${document} does`);
  }

  async #checkpoint(shell: Shell, timeoutMs: number): Promise<void> {
    const deadline = this.#cloud.clock.now() + timeoutMs;
    for (let attempt = 0; attempt < 3; attempt++) {
      if (this.#postgres !== 'ready') throw new ScriptFailed(1, 'checkpoint: the database did not take a CHECKPOINT');
      const takes = this.#random.logNormal(...CHECKPOINT);
      const left = deadline - this.#cloud.clock.now();
      await shell.pause(Math.min(takes, left));
      if (takes > left) break;
      shell.step('checkpoint');
      if (takes < 1000) return;
    }
    shell.stderr.push('checkpoint: the stop has more to write');
  }

  async #release(shell: Shell, volumeId: string | undefined): Promise<void> {
    if (volumeId === undefined) throw new ScriptFailed(1, 'release: the parameter volumeId is missing');
    const mounted = this.#mounted;
    if (mounted && mounted.volumeId !== volumeId)
      throw new ScriptFailed(10, `release: what is mounted at /data is not ${volumeId}: nothing was stopped`);
    const ran = this.#postgres !== 'stopped';
    if (ran) {
      if (this.#postgres === 'ready') {
        await shell.pause(Math.min(this.#random.logNormal(...CHECKPOINT), FINAL_CHECKPOINT_TIMEOUT_MS));
      }
      shell.step('final-checkpoint');
    }
    if (this.#devices.has(volumeId)) this.#released = true;
    if (ran) await shell.waitFor(this.#dockerStop());
    // What did not run when this began needs no clean shutdown.
    if (mounted && ran) {
      if (this.#exitCode !== 0 || !mounted.content.cleanlyShutDown) {
        throw new ScriptFailed(
          12,
          `release: PostgreSQL did not shut down cleanly (exit code ${this.#exitCode}); see \`docker logs keeper-postgres\``,
        );
      }
      shell.step('stop-database');
    }
    this.#setOwnAddress(undefined);
    if (this.#devices.has(volumeId)) {
      if (mounted) await this.#unmount(shell);
      shell.step('unmount');
    }
    void this.#takeOverAgain();
    shell.stdout.push(`release: ${volumeId} is released`);
  }

  async #grow(shell: Shell, volumeId: string | undefined, sizeGiB: number): Promise<void> {
    if (volumeId === undefined) throw new ScriptFailed(1, 'grow: the parameter volumeId is missing');
    const disk = this.#mounted;
    if (disk?.volumeId !== volumeId) throw new ScriptFailed(30, `grow: what is mounted at /data is not ${volumeId}`);
    const before = disk.content.fileSystemGiB;
    const deadline = this.#cloud.clock.now() + GROW_WAIT_MS;
    while (disk.sizeGiB < sizeGiB) {
      if (this.#cloud.clock.now() >= deadline)
        throw new ScriptFailed(31, `grow: the device of ${volumeId} has ${disk.sizeGiB} GiB, and not ${sizeGiB}`);
      await shell.pause(GROW_POLL_MS);
    }
    shell.step('wait-for-device');
    await shell.pause(this.#between(GROW_FILE_SYSTEM));
    growFileSystem(disk);
    shell.step('grow-file-system');
    shell.stdout.push(`grow: the file system of ${volumeId} went from ${before} to ${disk.content.fileSystemGiB} GiB`);
  }

  /** The modelled PostgreSQL has no extensions. */
  async #updateExtension(shell: Shell): Promise<void> {
    await shell.pause(this.#between(WRITE));
    if (this.#postgres !== 'ready') throw new ScriptFailed(40, 'update-extension: the databases could not be listed');
    shell.stdout.push('update-extension: no database has the extension timescaledb');
  }

  async #census(shell: Shell, id: string | undefined): Promise<void> {
    if (id === undefined) throw new ScriptFailed(1, 'census: the parameter census is missing');
    const disk = this.#mounted;
    if (this.#postgres !== 'ready' || !disk)
      throw new ScriptFailed(50, 'census: the tables of the census could not be made');
    await shell.pause(this.#between(CENSUS));
    if (this.#postgres !== 'ready') throw new ScriptFailed(53, 'census: the census could not be written');
    this.#datacentre.settle();
    const { content } = disk;
    const census = { id, takenAt: new Date(this.#cloud.clock.now()).toISOString(), rows: countRows(content) };
    content.censuses = [...content.censuses.filter((each) => each.id !== id), census].slice(-KEPT_CENSUSES);
    const { takenAt, rows } = census;
    shell.stdout.push(JSON.stringify({ census: id, takenAt, databases: 1, relations: content.rows.size, rows }));
  }

  // Docker does the stopping: it goes on when the script that asked for it is killed.
  #dockerStop(): Promise<void> {
    this.#stopping ??= this.#stopDatabase(this.#startShell()).finally(() => {
      this.#stopping = undefined;
    });
    return this.#stopping;
  }

  async #stopDatabase(docker: Shell): Promise<void> {
    if (this.#faults.has('dockerStopHangs')) {
      await docker.pause(DOCKER_STOP_TIMEOUT_MS);
      this.#exitCode = 137;
      this.#letGo();
      return;
    }
    const wasReady = this.#postgres === 'ready';
    // Sessions are ended first: from here on nothing is acknowledged.
    this.#setPostgres('stopping');
    await docker.pause(this.#between(STOP_DATABASE));
    this.#mounted?.writers.delete(this.identity.instanceId);
    if (this.#mounted) this.#mounted.content.cleanlyShutDown = wasReady;
    this.#setPostgres('stopped');
  }

  async #unmount(shell: Shell): Promise<void> {
    if (this.#faults.has('umountHangs')) {
      await shell.pause(UNMOUNT_TIMEOUT_MS);
      throw new ScriptFailed(13, 'release: unmounting /data hangs');
    }
    await shell.pause(this.#between(UNMOUNT));
    this.#mounted = undefined;
  }

  async #verify(shell: Shell, volumeId: string | undefined): Promise<void> {
    const fail = (exitCode: number, what: string) => {
      const reason = this.#takeoverFailure === undefined ? '' : `; the takeover says: ${this.#takeoverFailure}`;
      return new ScriptFailed(exitCode, `verify: ${what}${reason}`);
    };
    if (volumeId === undefined) throw fail(1, 'the parameter volumeId is missing');
    if (this.#mounted?.volumeId !== volumeId) throw fail(20, `what is mounted at /data is not ${volumeId}`);
    if (this.#ownAddress === undefined) throw fail(21, 'the address is not on this host');
    if (this.#postgres === 'stopped') throw fail(21, `nothing listens on ${this.#ownAddress} port 5432`);
    await shell.pause(this.#between(WRITE));
    if (this.#postgres !== 'ready') throw fail(22, 'the database did not take a write');
    shell.stdout.push(
      JSON.stringify({
        steps: this.#takeoverSteps.map(({ name, startedAtSeconds, seconds }) => ({
          name,
          startedAt: startedAtSeconds,
          seconds,
        })),
        serverVersion: SERVER_VERSION,
        dataChecksums: true,
      }),
    );
  }
}

function censusDetail(id: string): string {
  if (id === '') return 'no census was written before this snapshot: nothing can be compared';
  return `it has the census ${id}`;
}

function growFileSystem(disk: Disk): void {
  disk.content.fileSystemGiB = disk.sizeGiB;
}

function lines(printed: readonly string[]): string {
  return printed.map((line) => `${line}\n`).join('');
}

function isPassing({ code, status }: AwsError): boolean {
  return status >= 500 || status === 429 || /Throttl|TooManyRequests|LimitExceeded/.test(code);
}
