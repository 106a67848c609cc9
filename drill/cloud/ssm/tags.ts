import type { Shape } from '../kernel.ts';

export type Tags = Readonly<Record<string, string>>;

/** From the API's list of keys and values. */
export function fromTagList(list: Shape): Tags {
  return Object.fromEntries((list ?? []).map((tag: Shape) => [tag.Key, tag.Value]));
}

/** The condition keys that a resource's tags give, under each of the prefixes (`aws:ResourceTag`, `ssm:resourceTag`). */
export function resourceTagContext(tags: Tags, prefixes: readonly string[]): Record<string, string> {
  const context: Record<string, string> = {};
  for (const prefix of prefixes) {
    for (const [key, value] of Object.entries(tags)) context[`${prefix}/${key}`] = value;
  }
  return context;
}

/** The condition keys that the tags of a request give. */
export function requestTagContext(tags: Tags): Record<string, string | readonly string[]> {
  const keys = Object.keys(tags);
  return keys.length === 0 ? {} : { ...resourceTagContext(tags, ['aws:RequestTag']), 'aws:TagKeys': keys };
}
