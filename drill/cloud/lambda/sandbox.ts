import type { Clock } from '../clock.ts';
import type { NotModelled, Shape } from '../kernel.ts';
import type { Random } from '../random.ts';
import { Bundles } from './bundle.ts';
import { GLOBAL_NAMES, sandboxGlobals } from './globals.ts';
import type { Transport } from './https.ts';
import { sandboxRequire } from './modules.ts';
import { sandboxProcess } from './process.ts';
import { createRefuse } from './strict.ts';
import { type Gate, SandboxTimers } from './timers.ts';

export interface SandboxOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** The environment variables. */
  readonly environment: Readonly<Record<string, string>>;
  readonly architecture: 'arm64' | 'x64';
  readonly gate: Gate;
  readonly transport: Transport;
  /** One line of the function's standard output or standard error. */
  log(line: string): void;
  /** `process.exit`; whatever runs afterwards has no effect any more. */
  exit(code: number): void;
  /** The function used what is not modelled: the run is void. */
  fail(error: NotModelled): void;
}

export interface Sandbox {
  /** What the bundle exports. */
  readonly exports: Shape;
  readonly timers: SandboxTimers;
}

const PARAMETERS = [...GLOBAL_NAMES, 'require', 'module', 'exports', 'importBuiltin', '__filename', '__dirname'];
const bundles = new Bundles(PARAMETERS);

/**
 * Evaluates a built Lambda function in a world of its own: its time is the clock's, its chance the seed's, its network
 * the local cloud. The bundle shares the language's intrinsics with this process, so that `instanceof` works with what
 * Node.js's built-in modules return, as it does in Lambda; it is kept honest, not kept prisoner.
 * @param file absolute path of the bundle
 */
export function evaluate(file: string, options: SandboxOptions): Sandbox {
  const refuse = createRefuse((error) => options.fail(error));
  const timers = new SandboxTimers(options.clock, options.gate);
  const globals = sandboxGlobals(options, timers, sandboxProcess(options, refuse), refuse);
  const require = sandboxRequire(options, timers, globals, refuse);
  const module = { exports: {} };
  const scope: Record<string, unknown> = {
    ...globals,
    require,
    module,
    exports: module.exports,
    importBuiltin: async (specifier: string) => require(specifier),
    __filename: '/var/task/index.js',
    __dirname: '/var/task',
  };
  const run = bundles.compile(file).runInThisContext();
  run.apply(
    module.exports,
    PARAMETERS.map((name) => scope[name]),
  );
  return { exports: module.exports, timers };
}
