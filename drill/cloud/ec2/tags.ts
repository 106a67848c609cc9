import { AwsError, onlyKnown, type Shape } from '../kernel.ts';
import { invalidParameter } from './errors.ts';
import type { Tags } from './records.ts';

/** docs: "Tag restrictions", EC2 user guide */
const MAX_TAGS = 50;

/**
 * @param list tags as the API and CloudFormation have them: `[{ Key, Value }]`
 * @throws AwsError InvalidParameterValue for a key without text or in AWS's name space
 */
export function parseTags(list: Shape): Tags {
  const tags: Tags = new Map();
  for (const tag of list ?? []) {
    onlyKnown('a tag', tag, ['Key', 'Value']);
    if (!tag.Key) throw invalidParameter('Tag key cannot be null or empty.');
    if (String(tag.Key).startsWith('aws:'))
      throw invalidParameter("Tag keys starting with 'aws:' are reserved for internal use");
    tags.set(String(tag.Key), String(tag.Value ?? ''));
  }
  return tags;
}

/**
 * @param specifications `[{ ResourceType, Tags }]`
 * @returns the tags by resource type
 */
export function parseTagSpecifications(specifications: Shape): Map<string, Tags> {
  const byType = new Map<string, Tags>();
  for (const specification of specifications ?? []) {
    onlyKnown('TagSpecifications', specification, ['ResourceType', 'Tags']);
    byType.set(specification.ResourceType, parseTags(specification.Tags));
  }
  return byType;
}

/** @throws AwsError TagLimitExceeded */
export function addTags(to: Tags, added: Tags): void {
  const own = [...new Set([...to.keys(), ...added.keys()])].filter((key) => !key.startsWith('aws:'));
  if (own.length > MAX_TAGS)
    throw new AwsError('TagLimitExceeded', `You have reached the maximum number of ${MAX_TAGS} tags for the resource.`);
  for (const [key, value] of added) to.set(key, value);
}

export function renderTags(tags: Tags): { Key: string; Value: string }[] {
  return [...tags].map(([Key, Value]) => ({ Key, Value }));
}
