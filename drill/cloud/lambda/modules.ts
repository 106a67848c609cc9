import { Console } from 'node:console';
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { createRequire } from 'node:module';
import { crc32, gunzipSync, gzipSync } from 'node:zlib';
import type { Shape } from '../kernel.ts';
import { httpModule } from './https.ts';
import { webCrypto } from './random-sources.ts';
import type { SandboxOptions } from './sandbox.ts';
import { type Refuse, strict } from './strict.ts';
import type { SandboxTimers } from './timers.ts';

/** Built-in modules that neither do I/O nor know the time. */
const PURE = [
  'assert',
  'async_hooks',
  'buffer',
  'events',
  'path',
  'querystring',
  'stream',
  'string_decoder',
  'url',
  'util',
];

/** The home directory of the user that functions run as. */
const HOME = '/home/sbx_user1051';

const nodeRequire = createRequire(import.meta.url);

/** `require` for one execution environment: built-in modules only, and of those what can be had without I/O. */
export function sandboxRequire(
  options: SandboxOptions,
  timers: SandboxTimers,
  globals: Readonly<Record<string, Shape>>,
  refuse: Refuse,
): (specifier: string) => Shape {
  const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate } = globals;
  const http = () => httpModule(options.transport, refuse);
  const modules: Readonly<Record<string, () => Shape>> = {
    // Bundles import it for credentials that Lambda does not use.
    child_process: () => ({}),
    console: () => ({ Console }),
    crypto: () => cryptoModule(options),
    fs: () => fileModule(refuse),
    'fs/promises': () => filePromisesModule(refuse),
    http,
    https: http,
    os: () => ({ EOL: '\n', homedir: () => HOME, platform: () => 'linux', release: () => '5.10', type: () => 'Linux' }),
    perf_hooks: () => ({ performance: globals['performance'] }),
    process: () => globals['process'],
    timers: () => ({ setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate }),
    'timers/promises': () => timerPromisesModule(timers),
    zlib: () => ({ crc32, gunzipSync, gzipSync }),
  };
  const loaded = new Map<string, Shape>();
  const load = (name: string): Shape => {
    if (PURE.includes(name)) return nodeRequire(`node:${name}`);
    const make = modules[name];
    if (!make) throw refuse(`require('${name}')`);
    return strict(`node:${name}`, make(), refuse);
  };
  return (specifier) => {
    const name = specifier.replace(/^node:/, '');
    const module = loaded.get(name) ?? load(name);
    loaded.set(name, module);
    return module;
  };
}

function cryptoModule({ random }: SandboxOptions): Shape {
  const web = webCrypto(random);
  const randomBytes = (size: number): Buffer => web.getRandomValues(Buffer.alloc(size));
  return { ...web, webcrypto: web, randomBytes, createHash, createHmac, timingSafeEqual };
}

function timerPromisesModule(timers: SandboxTimers): Shape {
  return {
    setTimeout: timers.sleep.bind(timers),
    setImmediate: (value?: unknown) => new Promise((resolve) => timers.setImmediate(() => resolve(value))),
  };
}

function fileModule(refuse: Refuse): Shape {
  return {
    existsSync: (path: string) => {
      noSuchFile(path, refuse);
      return false;
    },
    readFile: (path: string, ...rest: unknown[]) => {
      const callback = rest.at(-1) as (error: Error) => void;
      queueMicrotask(() => callback(noSuchFile(path, refuse)));
    },
    readFileSync: (path: string) => {
      throw noSuchFile(path, refuse);
    },
    promises: strict('node:fs.promises', filePromisesModule(refuse), refuse),
  };
}

function filePromisesModule(refuse: Refuse): Shape {
  return {
    readFile: async (path: string) => {
      throw noSuchFile(path, refuse);
    },
  };
}

/** The SDK looks for its configuration files, which Lambda does not have; other files are not modelled. */
function noSuchFile(path: string, refuse: Refuse): Error {
  if (!path.startsWith(`${HOME}/.aws/`)) throw refuse(`reading ${path}`);
  return Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'open',
    path,
  });
}
