import type { Tag } from '@aws-sdk/client-ec2';

/** The value of a tag; undefined where it is not there. */
export function tag(tags: readonly Tag[] | undefined, key: string): string | undefined {
  return tags?.find((each) => each.Key === key)?.Value;
}
