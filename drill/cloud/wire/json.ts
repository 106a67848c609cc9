import { AwsError, NotModelled, type Shape } from '../kernel.ts';
import type { Structure, Type } from './schema.ts';
import { formatTimestamp, malformed, parseTimestamp, refuseUnknown } from './values.ts';

/** @throws AwsError SerializationException when the text is not a JSON object */
export function parseJsonObject(text: string): Shape {
  let value: unknown;
  try {
    value = JSON.parse(text === '' ? '{}' : text);
  } catch {
    throw malformed('body', text);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('body', text);
  return value;
}

/**
 * Reads a JSON value as the schema says.
 * @throws NotModelled for a member that the schema lacks; AwsError for a missing or malformed one
 */
export function decodeJson(type: Type, value: Shape, path: string): Shape {
  switch (type.kind) {
    case 'structure':
      return decodeStructure(type, value, path);
    case 'list':
      if (!Array.isArray(value)) throw malformed(path, value);
      return value.map((item, i) => decodeJson(type.member.type, item, `${path}[${i}]`));
    case 'map':
      if (typeof value !== 'object') throw malformed(path, value);
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, decodeJson(type.value.type, item, `${path}.${key}`)]),
      );
    case 'timestamp':
      return parseTimestamp(value, path);
    case 'blob':
      if (typeof value !== 'string') throw malformed(path, value);
      return new Uint8Array(Buffer.from(value, 'base64'));
    case 'document':
      return value;
    default:
      if (typeof value !== type.kind) throw malformed(path, value);
      return value;
  }
}

function decodeStructure(type: Structure, value: Shape, path: string): Shape {
  if (typeof value !== 'object') throw malformed(path, value);
  const result: Shape = {};
  for (const [name, item] of Object.entries(value)) {
    const member = type.members.get(name);
    if (!member) throw new NotModelled(`${path}.${name} is not in the AWS SDK's schema`);
    if (item !== null) result[name] = decodeJson(member.type, item, `${path}.${name}`);
  }
  refuseMissing(type, result);
  return result;
}

/** @throws AwsError ValidationException as the JSON services word it */
export function refuseMissing(type: Structure, value: Shape): void {
  for (const name of type.required) {
    if (value[name] !== undefined) continue;
    const member = name.charAt(0).toLowerCase() + name.slice(1);
    throw new AwsError(
      'ValidationException',
      `1 validation error detected: Value at '${member}' failed to satisfy constraint: Member must not be null`,
    );
  }
}

/**
 * A value as JSON.stringify can write it.
 * @throws Error for a member that the schema lacks
 */
export function encodeJson(type: Type, value: Shape, path: string): Shape {
  switch (type.kind) {
    case 'structure': {
      refuseUnknown(type.name, value, (name) => type.members.has(name));
      const result: Shape = {};
      for (const member of type.members.values()) {
        const item = value[member.name];
        if (item !== undefined && item !== null) {
          result[member.name] = encodeJson(member.type, item, `${path}.${member.name}`);
        }
      }
      return result;
    }
    case 'list':
      return value.map((item: Shape) => encodeJson(type.member.type, item, path));
    case 'map':
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, encodeJson(type.value.type, item, `${path}.${key}`)]),
      );
    case 'timestamp':
      return formatTimestamp(value, type.format === 'default' ? 'epoch-seconds' : type.format);
    case 'blob':
      return Buffer.from(value).toString('base64');
    case 'document':
      return value;
    default:
      if (typeof value !== type.kind) {
        throw new Error(`${path}: an answer of the local cloud has ${typeof value} where AWS has ${type.kind}`);
      }
      return value;
  }
}
