import { createHash } from 'node:crypto';
import jsonata from 'jsonata';
import type { Clock } from '../clock.ts';
import { Random } from '../random.ts';
import { StateFailure } from './failures.ts';

const HASHES: Readonly<Record<string, string>> = {
  MD5: 'md5',
  'SHA-1': 'sha1',
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
};

/** The longest array that `$range` gives. @see dg/intrinsic-functions.html, States.ArrayRange */
const RANGE_LIMIT = 1000;

const compiled = new Map<string, jsonata.Expression>();
const formatNow = jsonata('$fromMillis($at, $picture, $timezone)');

/** The JSONata text in a string of the form `{% … %}`, else undefined. */
export function expressionIn(text: string): string | undefined {
  return text.startsWith('{%') && text.endsWith('%}') ? text.slice(2, -2).trim() : undefined;
}

/**
 * The compiled form of a JSONata expression, from the cache where it has been seen before.
 * @throws the parser's error object (`code`, `message`)
 */
export function compile(expression: string): jsonata.Expression {
  const known = compiled.get(expression);
  if (known) return known;
  const fresh = jsonata(expression);
  compiled.set(expression, fresh);
  return fresh;
}

/** A version 4 UUID from the seeded randomness. */
export function uuid(random: Random): string {
  const hex = random.hex(32);
  const variant = '89ab'.charAt(random.below(4));
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** Evaluates the JSONata of state machines, on the clock and the randomness of the local cloud. */
export class Evaluator {
  readonly #functions: Readonly<Record<string, unknown>>;

  constructor(clock: Clock, random: Random) {
    this.#functions = functions(clock, random);
  }

  /**
   * Evaluates every `{% … %}` in a JSON value.
   * @param field where the value stands in the state, e.g. `Output`, for the cause of an error
   * @param names what `$name` means: the variables, and `states`
   * @throws StateFailure `States.QueryEvaluationError`
   */
  async evaluate(value: unknown, field: string, names: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (typeof value === 'string') {
      const expression = expressionIn(value);
      return expression === undefined ? value : this.#expression(expression, field, names);
    }
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (const [index, item] of value.entries()) items.push(await this.evaluate(item, `${field}[${index}]`, names));
      return items;
    }
    if (typeof value === 'object' && value !== null) {
      const members: Record<string, unknown> = {};
      for (const [key, member] of Object.entries(value)) {
        members[key] = await this.evaluate(member, `${field}/${key}`, names);
      }
      return members;
    }
    return value;
  }

  async #expression(expression: string, field: string, names: Readonly<Record<string, unknown>>): Promise<unknown> {
    const where = `The JSONata expression '${expression}' specified for the field '${field}'`;
    let result: unknown;
    try {
      result = await compile(expression).evaluate(undefined, { ...this.#functions, ...names });
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const detail = code === undefined ? message : `${code}: ${message}`;
      throw new StateFailure('States.QueryEvaluationError', `${where} threw an error during evaluation. ${detail}`);
    }
    if (result === undefined) {
      throw new StateFailure('States.QueryEvaluationError', `${where} returned nothing (undefined).`);
    }
    if (containsFunction(result)) {
      throw new StateFailure('States.QueryEvaluationError', `${where} returned an unsupported result type.`);
    }
    // JSONata hands out its own sequences and references into the input: only plain JSON leaves an expression.
    return JSON.parse(JSON.stringify(result));
  }
}

/** JSONata's functions are values like any other (objects with a mark), but no JSON. */
function containsFunction(value: unknown): boolean {
  if (typeof value === 'function') return true;
  if (typeof value !== 'object' || value === null) return false;
  return '_jsonata_function' in value || '_jsonata_lambda' in value || Object.values(value).some(containsFunction);
}

/**
 * What Step Functions adds to JSONata, and the built-in functions that would read the real clock or randomness.
 * @see step-functions/latest/dg/transforming-data.html, "JSONata functions provided by Step Functions"
 */
function functions(clock: Clock, random: Random): Record<string, unknown> {
  return {
    now: (picture?: string, timezone?: string) => formatNow.evaluate(undefined, { at: clock.now(), picture, timezone }),
    millis: () => clock.now(),
    random: (seed?: number) => (seed === undefined ? random : new Random(Math.floor(seed))).next(),
    uuid: () => uuid(random),
    parse: (text?: string) => (text === undefined ? undefined : JSON.parse(text)),
    eval: () => {
      throw new Error('$eval is not supported in Step Functions: use $parse');
    },
    hash: (text: string | undefined, algorithm: string) => {
      if (text === undefined) return undefined;
      const name = HASHES[algorithm];
      if (name === undefined) throw new Error(`$hash does not know the algorithm ${algorithm}`);
      return createHash(name).update(text).digest('hex');
    },
    partition: (items: unknown[] | undefined, size: number) => {
      if (items === undefined) return undefined;
      const step = Math.floor(size);
      if (!(step >= 1)) throw new Error('$partition needs a chunk size of at least 1');
      return Array.from({ length: Math.ceil(items.length / step) }, (_, i) => items.slice(i * step, (i + 1) * step));
    },
    range: (first: number, last: number, delta: number) => {
      const [from, to, step] = [Math.floor(first), Math.floor(last), Math.floor(delta)];
      if (step === 0 || [from, to, step].some(Number.isNaN)) throw new Error('$range needs a step other than 0');
      const length = Math.max(0, Math.floor((to - from) / step) + 1);
      if (length > RANGE_LIMIT) throw new Error(`$range gives no more than ${RANGE_LIMIT} items`);
      return Array.from({ length }, (_, i) => from + i * step);
    },
  };
}
