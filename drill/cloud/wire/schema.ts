import { NotModelled, type Shape } from '../kernel.ts';

/**
 * The Smithy schemas that the generated SDK clients export, read into types. A schema is a number (a simple type, or a
 * list or map of one), an array that starts with its kind, a function that returns a schema, or a pair of a schema and
 * the traits that a member adds to it.
 * @see node_modules/@smithy/core/dist-es/submodules/schema/schemas/{NormalizedSchema,sentinels,translateTraits}.js
 */
export type Traits = Readonly<Record<string, Shape>>;

export interface Member {
  /** As in the API, e.g. `VolumeId`; `member`, `key` or `value` in lists and maps. */
  readonly name: string;
  /** What this use of the type says, e.g. `xmlName`. */
  readonly memberTraits: Traits;
  /** Those, over what the type itself says. */
  readonly traits: Traits;
  readonly type: Type;
}

export interface Structure {
  readonly kind: 'structure';
  readonly name: string;
  readonly traits: Traits;
  readonly members: ReadonlyMap<string, Member>;
  readonly required: readonly string[];
}

export type TimestampFormat = 'default' | 'date-time' | 'http-date' | 'epoch-seconds';

export type Type =
  | { readonly kind: 'string' | 'number' | 'boolean' | 'blob' | 'document'; readonly traits: Traits }
  | { readonly kind: 'timestamp'; readonly format: TimestampFormat; readonly traits: Traits }
  | { readonly kind: 'list'; readonly member: Member; readonly traits: Traits }
  | { readonly kind: 'map'; readonly key: Member; readonly value: Member; readonly traits: Traits }
  | Structure;

export interface OperationSchema {
  readonly name: string;
  readonly traits: Traits;
  /** Undefined for operations that take nothing. */
  readonly input: Structure | undefined;
  /** Undefined for operations that return nothing. */
  readonly output: Structure | undefined;
}

const SIMPLE_KINDS: Readonly<Record<number, 'string' | 'number' | 'boolean' | 'blob' | 'document'>> = {
  0: 'string',
  1: 'number',
  2: 'boolean',
  15: 'document',
  21: 'blob',
  42: 'blob', // streaming
};
const TIMESTAMP_FORMATS: Readonly<Record<number, TimestampFormat>> = {
  4: 'default',
  5: 'date-time',
  6: 'http-date',
  7: 'epoch-seconds',
};
const LIST_OF = 64;
const MAP_OF = 128;
const TRAIT_BITS = [
  'httpLabel',
  'idempotent',
  'idempotencyToken',
  'sensitive',
  'httpPayload',
  'httpResponseCode',
  'httpQueryParams',
];

const types = new WeakMap<object, Type>();
const operations = new WeakMap<object, OperationSchema>();

/**
 * Reads the schema of an operation from the exports of an SDK client.
 * @throws NotModelled when the client has no such operation
 */
export function readOperation(client: Shape, name: string): OperationSchema {
  const schema = client[`${name}$`];
  if (!Array.isArray(schema) || schema[0] !== 9) throw new NotModelled(`the AWS SDK has no operation ${name}`);
  const known = operations.get(schema);
  if (known) return known;
  const [, , , traits, input, output] = schema;
  const operation = { name, traits: readTraits(traits), input: readStructure(input), output: readStructure(output) };
  operations.set(schema, operation);
  return operation;
}

/** Reads an error's schema, where the client has one of that name. */
export function readError(client: Shape, name: string): Structure | undefined {
  const schema = client[`${name}$`];
  return Array.isArray(schema) && schema[0] === -3 ? readStructure(schema) : undefined;
}

function readStructure(schema: Shape): Structure | undefined {
  const target = dereference(schema);
  if (target === 'unit') return undefined;
  const type = readType(target);
  return type.kind === 'structure' ? type : undefined;
}

function dereference(schema: Shape): Shape {
  return typeof schema === 'function' ? schema() : schema;
}

function readTraits(traits: Shape): Traits {
  if (typeof traits === 'object' && traits !== null) return traits;
  const bits = Number(traits ?? 0);
  return Object.fromEntries(TRAIT_BITS.flatMap((name, bit) => ((bits >> bit) & 1 ? [[name, 1]] : [])));
}

function readType(schema: Shape): Type {
  const target = dereference(schema);
  if (typeof target === 'number') return readNumber(target);
  if (!Array.isArray(target)) return emptyStructure(String(target));
  const known = types.get(target);
  if (known) return known;
  const type = readArray(target);
  types.set(target, type);
  return type;
}

function readNumber(schema: number): Type {
  if (schema >= MAP_OF) {
    const value = schema & ~MAP_OF;
    return { kind: 'map', key: readMember('key', 0), value: readMember('value', value), traits: {} };
  }
  if (schema >= LIST_OF) return { kind: 'list', member: readMember('member', schema & ~LIST_OF), traits: {} };
  return readSimple(schema, {});
}

function readSimple(schema: number, traits: Traits): Type {
  const format = TIMESTAMP_FORMATS[schema];
  if (format) return { kind: 'timestamp', format, traits };
  const kind = SIMPLE_KINDS[schema];
  if (!kind) throw new NotModelled(`the wire layer does not model the Smithy simple type ${schema}`);
  return { kind, traits };
}

function readArray(schema: Shape[]): Type {
  const [kind, , name, ownTraits, ...rest] = schema;
  const traits = readTraits(ownTraits);
  switch (kind) {
    case 0:
      return readSimple(rest[0], traits);
    case 1:
      return { kind: 'list', member: readMember('member', rest[0]), traits };
    case 2:
      return { kind: 'map', key: readMember('key', rest[0]), value: readMember('value', rest[1]), traits };
    case 3:
    case -3:
    case 4: {
      const names: string[] = rest[0];
      const members = new Map(names.map((member, i) => [member, readMember(member, rest[1][i])]));
      return { kind: 'structure', name, traits, members, required: names.slice(0, rest[2] ?? 0) };
    }
    default:
      throw new NotModelled(`the wire layer does not model the Smithy shape kind ${kind} of ${name}`);
  }
}

function emptyStructure(name: string): Structure {
  return { kind: 'structure', name, traits: {}, members: new Map(), required: [] };
}

// The type is read when it is first needed: schemas are recursive.
function readMember(name: string, schema: Shape): Member {
  const isPair = Array.isArray(schema) && schema.length === 2;
  const target = isPair ? schema[0] : schema;
  const memberTraits = readTraits(isPair ? schema[1] : 0);
  let type: Type | undefined;
  let traits: Traits | undefined;
  return {
    name,
    memberTraits,
    get type() {
      type ??= readType(target);
      return type;
    },
    get traits() {
      traits ??= { ...this.type.traits, ...memberTraits };
      return traits;
    },
  };
}
