import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecuteOptions {
  /** The whole environment of the process; default: the drill's own. */
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: string;
  /** Is given every line of stdout and stderr when it is complete. */
  readonly onLine?: (line: string) => void;
}

/**
 * Runs a program until it and everything that shares its output has ended. It is in a session of its own, so that
 * Ctrl-C reaches the drill only.
 */
export async function execute(argv: readonly string[], options: ExecuteOptions = {}): Promise<Outcome> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { detached: true, ...(options.env && { env: options.env }) });
  child.stdin.on('error', () => {}); // it may end without reading
  child.stdin.end(options.stdin ?? '');
  const stdout = collect(child.stdout, options.onLine);
  const stderr = collect(child.stderr, options.onLine);
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 143)));
  });
  return { exitCode, stdout: stdout(), stderr: stderr() };
}

/** @returns what it wrote to stdout, without the last newline; @throws Error when it fails */
export async function checked(argv: readonly string[], stdin?: string): Promise<string> {
  const outcome = await execute(argv, stdin === undefined ? {} : { stdin });
  if (outcome.exitCode === 0) return outcome.stdout.trimEnd();
  throw new Error(`${argv.join(' ')} ended with ${outcome.exitCode}: ${outcome.stderr.trim()}`);
}

function collect(stream: NodeJS.ReadableStream, onLine: ((line: string) => void) | undefined): () => string {
  let all = '';
  let unfinished = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    all += chunk;
    if (!onLine) return;
    const lines = (unfinished + chunk).split('\n');
    unfinished = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  stream.on('end', () => {
    if (onLine && unfinished !== '') onLine(unfinished);
  });
  return () => all;
}

/** A process that lives as long as the drill at most: the kernel kills it when the drill ends, however it ends. */
export function spawnBound(argv: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...argv], { detached: true, ...options });
}

/** A process that holds namespaces open. When it ends, everything in its pid namespace does. */
export class NamespaceHolder {
  /** As the drill sees it: `/proc/<pid>/ns`, `/proc/<pid>/root`. */
  readonly pid: number;
  readonly #unshare: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(unshare: ChildProcess, pid: number, ended: Promise<void>) {
    this.#unshare = unshare;
    this.pid = pid;
    this.#ended = ended;
  }

  /**
   * @param namespaces options of unshare(1), e.g. `--net`
   * @param argv the first process: it says `ready` on stdout, and then stays
   */
  static async start(
    namespaces: readonly string[],
    argv: readonly string[],
    env?: NodeJS.ProcessEnv,
  ): Promise<NamespaceHolder> {
    const unshare = spawnBound(['unshare', ...namespaces, '--pid', '--fork', '--kill-child', '--', ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const ended = new Promise<void>((resolve) => unshare.once('exit', () => resolve()));
    await new Promise<void>((resolve, reject) => {
      let said = '';
      let complained = '';
      unshare.stderr?.on('data', (chunk: Buffer) => {
        complained += chunk;
      });
      unshare.stdout?.on('data', (chunk: Buffer) => {
        said += chunk;
        if (said.endsWith('ready\n')) resolve();
      });
      unshare.once('error', reject);
      unshare.once('exit', () => reject(new Error(`the namespaces could not be set up: ${complained.trim()}`)));
    });
    const children = readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8');
    return new NamespaceHolder(unshare, Number.parseInt(children, 10), ended);
  }

  /** argv that runs `command` in the namespaces that the options of nsenter(1) name, e.g. `--net`. */
  enter(namespaces: readonly string[], command: readonly string[]): readonly string[] {
    return ['nsenter', '--target', String(this.pid), ...namespaces, '--', ...command];
  }

  get alive(): boolean {
    return existsSync(`/proc/${this.pid}/ns/mnt`);
  }

  /** Kills everything in its pid namespace, and waits until it is gone. */
  async end(): Promise<void> {
    if (this.#unshare.exitCode === null && this.#unshare.signalCode === null) this.#unshare.kill('SIGKILL');
    await this.#ended;
  }
}
