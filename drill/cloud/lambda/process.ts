import { EventEmitter } from 'node:events';
import { Writable } from 'node:stream';
import type { Shape } from '../kernel.ts';
import type { SandboxOptions } from './sandbox.ts';
import { type Refuse, strict } from './strict.ts';

/** Standard output: every write is one line. */
class LogStream extends Writable {
  readonly #log: (line: string) => void;
  constructor(log: (line: string) => void) {
    super();
    this.#log = log;
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#log(chunk.toString().replace(/\n$/, ''));
    done();
  }
}

/** `process`, as a function in Lambda sees it. */
export function sandboxProcess(options: SandboxOptions, refuse: Refuse): Shape {
  const { clock, gate } = options;
  const startedAt = clock.now();
  const uptimeMs = () => clock.now() - startedAt;
  const stream = new LogStream((line) => options.log(line));
  const events = new EventEmitter();
  const members = {
    env: { ...options.environment },
    version: process.version,
    versions: process.versions,
    release: process.release,
    platform: 'linux',
    arch: options.architecture,
    pid: 8, // any number would do
    title: 'node',
    argv: ['/var/lang/bin/node', '/var/runtime/index.mjs'],
    execArgv: [],
    exitCode: undefined,
    stdout: stream,
    stderr: stream,
    geteuid: () => 993, // sbx_user1051
    cwd: () => '/var/task',
    uptime: () => uptimeMs() / 1000,
    hrtime: Object.assign((since?: readonly [number, number]) => hrtime(uptimeMs(), since), {
      bigint: () => BigInt(Math.round(uptimeMs() * 1e6)),
    }),
    nextTick: (callback: (...args: unknown[]) => void, ...args: unknown[]) =>
      process.nextTick(() => gate(() => callback(...args))),
    emitWarning: (warning: unknown) => options.log(`(node) ${String(warning)}`),
    exit: (code = 0) => options.exit(code),
    on: events.on.bind(events),
    once: events.once.bind(events),
    off: events.off.bind(events),
    removeListener: events.removeListener.bind(events),
    emit: events.emit.bind(events),
    listenerCount: events.listenerCount.bind(events),
    // Absent in Node.js too; libraries ask, to tell it from other runtimes.
    isBun: undefined,
    browser: undefined,
    type: undefined,
  };
  return strict('process', members, refuse);
}

function hrtime(ms: number, since: readonly [number, number] = [0, 0]): [number, number] {
  const nanoseconds = Math.round((ms % 1000) * 1e6) - since[1];
  const borrow = nanoseconds < 0 ? 1 : 0;
  return [Math.floor(ms / 1000) - since[0] - borrow, nanoseconds + borrow * 1e9];
}
