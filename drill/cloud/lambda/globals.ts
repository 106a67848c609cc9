import { Console } from 'node:console';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import type { Clock } from '../clock.ts';
import type { Shape } from '../kernel.ts';
import { webCrypto } from './random-sources.ts';
import type { SandboxOptions } from './sandbox.ts';
import { type Refuse, strict } from './strict.ts';
import type { SandboxTimers } from './timers.ts';

/** The language's own globals, as opposed to those of Node.js. */
const INTRINSICS: readonly string[] = runInNewContext('Object.getOwnPropertyNames(globalThis)').filter(
  (name: string) => name !== 'console' && name !== 'globalThis',
);
const intrinsics = Object.create(
  null,
  Object.fromEntries(INTRINSICS.map((name) => [name, { value: Reflect.get(globalThis, name), writable: true }])),
);

/** Globals that neither do I/O nor know the time. */
const PURE = [
  'AbortController',
  'Blob',
  'Buffer',
  'DOMException',
  'Event',
  'EventTarget',
  'Headers',
  'ReadableStream',
  'TextDecoder',
  'TextEncoder',
  'TransformStream',
  'URL',
  'URLSearchParams',
  'WritableStream',
  'atob',
  'btoa',
  'structuredClone',
];
const pure = Object.fromEntries(PURE.map((name) => [name, Reflect.get(globalThis, name)]));

/** Every global of Node.js: a function sees what the sandbox puts in its place, or nothing. */
const OF_NODE = Object.getOwnPropertyNames(globalThis).filter(
  (name) => /^[A-Za-z_$][\w$]*$/.test(name) && !INTRINSICS.includes(name),
);
/** What is called or constructed has to be refused then: a library that finds it missing would do something else. */
const REFUSED = OF_NODE.filter((name) => {
  const isCallable = typeof Object.getOwnPropertyDescriptor(globalThis, name)?.value === 'function';
  return !(name in pure) && (isCallable || /^[A-Z]/.test(name));
});

/** The names that {@link sandboxGlobals} decides about, with or without a value. */
export const GLOBAL_NAMES: readonly string[] = [...new Set([...OF_NODE, 'Date', 'Math', 'globalThis'])];

/** The globals of one execution environment. */
export function sandboxGlobals(
  { clock, random, gate }: SandboxOptions,
  timers: SandboxTimers,
  process: Shape,
  refuse: Refuse,
): Record<string, Shape> {
  const clear = (timeout: unknown) => timers.clear(timeout);
  const setTimeout = timers.setTimeout.bind(timers);
  const globals: Record<string, Shape> = {
    ...pure,
    ...Object.fromEntries(REFUSED.map((name) => [name, refusal(name, refuse)])),
    AbortSignal: sandboxAbortSignal(timers),
    Date: sandboxDate(clock),
    Math: Object.create(Math, { random: { value: () => random.next() } }),
    clearImmediate: clear,
    clearInterval: clear,
    clearTimeout: clear,
    console: new Console({ stdout: process.stdout, stderr: process.stderr }),
    crypto: strict('crypto', webCrypto(random), refuse),
    performance: strict('performance', sandboxPerformance(clock), refuse),
    process,
    queueMicrotask: (callback: () => void) => queueMicrotask(() => gate(callback)),
    setImmediate: timers.setImmediate.bind(timers),
    setInterval: timers.setInterval.bind(timers),
    setTimeout: Object.assign(setTimeout, { [promisify.custom]: timers.sleep.bind(timers) }),
  };
  globals['globalThis'] = globals['global'] = Object.assign(Object.create(intrinsics), globals);
  return globals;
}

function refusal(name: string, refuse: Refuse): () => never {
  return function refused() {
    throw refuse(`the global ${name}`);
  };
}

function sandboxDate(clock: Clock): DateConstructor {
  const now = () => Math.floor(clock.now());
  return new Proxy(Date, {
    construct: (target, args, self) => Reflect.construct(target, args.length > 0 ? args : [now()], self),
    apply: () => new Date(now()).toString(),
    get: (target, key) => (key === 'now' ? now : Reflect.get(target, key)),
  });
}

function sandboxPerformance(clock: Clock): Shape {
  const timeOrigin = clock.now();
  return { timeOrigin, now: () => clock.now() - timeOrigin };
}

function sandboxAbortSignal(timers: SandboxTimers): Shape {
  const timeout = (ms: number): AbortSignal => {
    const controller = new AbortController();
    const reason = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
    timers.setTimeout(() => controller.abort(reason), ms);
    return controller.signal;
  };
  return new Proxy(AbortSignal, { get: (target, key) => (key === 'timeout' ? timeout : Reflect.get(target, key)) });
}
