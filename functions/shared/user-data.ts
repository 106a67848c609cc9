import { gunzipSync, gzipSync } from 'node:zlib';
import { MalformedInput } from '../core/errors.ts';

/** EC2's limit for user data before base64. @see docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html */
const LIMIT_BYTES = 16_384;

/**
 * User data as EC2 takes it. Compressed, because a task token may have 2,048 characters beside the script; cloud-init
 * uncompresses it (docs.cloud-init.io, user-data formats).
 *
 * @param script a host's user data
 * @returns base64
 * @throws MalformedInput when it is too long
 */
export function packUserData(script: string): string {
  const packed = gzipSync(script, { level: 9 });
  if (packed.length > LIMIT_BYTES) {
    throw new MalformedInput(
      `the user data would have ${packed.length} bytes; EC2 takes ${LIMIT_BYTES}: shorten the script`,
    );
  }
  return packed.toString('base64');
}

/** The script that {@link packUserData} has packed. */
export function unpackUserData(base64: string): string {
  return gunzipSync(Buffer.from(base64, 'base64')).toString();
}
