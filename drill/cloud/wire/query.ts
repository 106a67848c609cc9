import { type AwsError, NotModelled, type Shape } from '../kernel.ts';
import type { Member, Structure, Type } from './schema.ts';
import { malformed, parseTimestamp } from './values.ts';

/** How the two query protocols differ in what they send. */
export interface QueryDialect {
  /** The key of a structure's member in the form. */
  memberKey(member: Member): string;
  /** Whether `Key.1` is a list's first item always (EC2), or `Key.member.1` unless the schema says flattened. */
  readonly flattensLists: boolean;
  /** What the service answers when a required parameter is missing. */
  missing(path: string): AwsError;
}

/** EC2 has a name of its own for every member in requests, else the XML name with a capital. */
export function ec2MemberKey(member: Member): string {
  if (member.traits.ec2QueryName) return member.traits.ec2QueryName;
  const name: string = member.traits.xmlName ?? member.name;
  return name.charAt(0).toUpperCase() + name.slice(1);
}

export function queryMemberKey(member: Member): string {
  return member.traits.xmlName ?? member.name;
}

/** The form as a tree: `Filter.1.Name=x` is Filter → 1 → Name → x. */
interface Node {
  value: string | undefined;
  readonly children: Map<string, Node>;
}

/** Splits a form into the action, and the tree of its parameters. */
export function parseForm(body: string): { readonly action: string; readonly parameters: Node } {
  const parameters: Node = { value: undefined, children: new Map() };
  let action = '';
  for (const [key, value] of new URLSearchParams(body)) {
    if (key === 'Action') action = value;
    else if (key !== 'Version') insert(parameters, key, value);
  }
  return { action, parameters };
}

function insert(root: Node, key: string, value: string): void {
  let node = root;
  for (const part of key.split('.')) {
    let child = node.children.get(part);
    if (!child) {
      child = { value: undefined, children: new Map() };
      node.children.set(part, child);
    }
    node = child;
  }
  node.value = value;
}

/** Names by form key; a structure belongs to one service, so to one dialect. */
const memberKeys = new WeakMap<Structure, ReadonlyMap<string, Member>>();

/**
 * Reads the tree of a form as the schema says.
 * @throws NotModelled for a parameter that the schema lacks; AwsError for a missing or malformed one
 */
export function decodeForm(type: Structure, node: Node, dialect: QueryDialect, path = type.name): Shape {
  let byKey = memberKeys.get(type);
  if (!byKey) {
    byKey = new Map([...type.members.values()].map((member) => [dialect.memberKey(member), member]));
    memberKeys.set(type, byKey);
  }
  const result: Shape = {};
  for (const [key, child] of node.children) {
    const member = byKey.get(key);
    if (!member) throw new NotModelled(`${path}.${key} is not in the AWS SDK's schema`);
    result[member.name] = decodeNode(member.type, member.traits, child, dialect, `${path}.${member.name}`);
  }
  for (const name of type.required) if (result[name] === undefined) throw dialect.missing(name);
  return result;
}

function decodeNode(type: Type, traits: Member['traits'], node: Node, dialect: QueryDialect, path: string): Shape {
  switch (type.kind) {
    case 'structure':
      return decodeForm(type, node, dialect, path);
    case 'list': {
      const flat = dialect.flattensLists || traits.xmlFlattened;
      const holder = flat ? node : node.children.get(type.member.traits.xmlName ?? 'member');
      return inOrder(holder).map((item) => decodeNode(type.member.type, type.member.traits, item, dialect, path));
    }
    case 'map': {
      const holder = traits.xmlFlattened ? node : node.children.get('entry');
      const entries = inOrder(holder).map((entry) => {
        const key = entry.children.get(type.key.traits.xmlName ?? 'key')?.value;
        const value = entry.children.get(type.value.traits.xmlName ?? 'value');
        if (key === undefined || !value) throw malformed(path, [...entry.children.keys()]);
        return [key, decodeNode(type.value.type, type.value.traits, value, dialect, `${path}.${key}`)];
      });
      return Object.fromEntries(entries);
    }
    default:
      if (node.value === undefined || node.children.size > 0) throw malformed(path, [...node.children.keys()]);
      return decodeText(type, node.value, path);
  }
}

function inOrder(node: Node | undefined): Node[] {
  if (!node) return [];
  return [...node.children].sort(([a], [b]) => Number(a) - Number(b)).map(([, child]) => child);
}

/** Reads a value from text: a form's value, a header, a part of the path. */
export function decodeText(type: Type, text: string, path: string): Shape {
  switch (type.kind) {
    case 'string':
      return text;
    case 'boolean':
      if (text !== 'true' && text !== 'false') throw malformed(path, text);
      return text === 'true';
    case 'number': {
      const number = Number(text);
      if (text === '' || Number.isNaN(number)) throw malformed(path, text);
      return number;
    }
    case 'timestamp':
      return parseTimestamp(text, path);
    case 'blob':
      return new Uint8Array(Buffer.from(text, 'base64'));
    default:
      throw new NotModelled(`${path}: the wire layer does not model a ${type.kind} as text`);
  }
}
