import type { Shape } from '../kernel.ts';
import type { Random } from '../random.ts';

/** The Web Crypto API as far as it needs no thread: all its chance is the seed's. */
export function webCrypto(random: Random): Shape {
  const getRandomValues = <T extends NodeJS.TypedArray>(array: T): T => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
    return array;
  };
  return { getRandomValues, randomUUID: () => random.uuid() };
}
