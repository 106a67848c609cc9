import { NotModelled, type Shape } from '../kernel.ts';
import type { Member, Structure, Type } from './schema.ts';
import { formatTimestamp, refuseUnknown } from './values.ts';

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '\r': '&#xD;',
};

export function escapeXml(text: string): string {
  return text.replace(/[&<>"'\r]/g, (character) => ESCAPES[character] ?? character);
}

/**
 * The members of a structure as XML elements.
 * @throws Error for a member that the schema lacks
 */
export function encodeXmlMembers(type: Structure, value: Shape): string {
  refuseUnknown(type.name, value, (name) => type.members.has(name));
  let xml = '';
  for (const member of type.members.values()) {
    const item = value?.[member.name];
    if (item !== undefined && item !== null) {
      xml += encodeElement(member.memberTraits.xmlName ?? member.name, member, item);
    }
  }
  return xml;
}

function encodeElement(tag: string, member: Member, value: Shape): string {
  const { type, traits } = member;
  if (type.kind === 'list') {
    if (!Array.isArray(value)) throw new Error(`${tag}: an answer of the local cloud has no list where AWS has one`);
    if (traits.xmlFlattened) return value.map((item) => encodeElement(tag, type.member, item)).join('');
    const itemTag = type.member.traits.xmlName ?? 'member';
    return `<${tag}>${value.map((item) => encodeElement(itemTag, type.member, item)).join('')}</${tag}>`;
  }
  if (type.kind === 'map') {
    const keyTag = type.key.traits.xmlName ?? 'key';
    const valueTag = type.value.traits.xmlName ?? 'value';
    const entryTag = traits.xmlFlattened ? tag : 'entry';
    const entries = Object.entries(value).map(
      ([key, item]) =>
        `<${entryTag}><${keyTag}>${escapeXml(key)}</${keyTag}>${encodeElement(valueTag, type.value, item)}</${entryTag}>`,
    );
    return traits.xmlFlattened ? entries.join('') : `<${tag}>${entries.join('')}</${tag}>`;
  }
  if (type.kind === 'structure') return `<${tag}>${encodeXmlMembers(type, value)}</${tag}>`;
  return `<${tag}>${encodeText(type, value, tag)}</${tag}>`;
}

function encodeText(type: Type, value: Shape, tag: string): string {
  switch (type.kind) {
    case 'timestamp':
      return String(formatTimestamp(value, type.format === 'default' ? 'date-time' : type.format));
    case 'blob':
      return Buffer.from(value).toString('base64');
    case 'string':
    case 'number':
    case 'boolean':
      if (typeof value !== type.kind) {
        throw new Error(`${tag}: an answer of the local cloud has ${typeof value} where AWS has ${type.kind}`);
      }
      return escapeXml(String(value));
    default:
      throw new NotModelled(`${tag}: the wire layer does not model a ${type.kind} in XML`);
  }
}
