import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { packUserData, unpackUserData } from '../../../functions/shared/user-data.ts';

describe('user data as EC2 takes it', () => {
  it('is the script, compressed, which cloud-init uncompresses', () => {
    const script = `#!/bin/bash\n${'echo hello\n'.repeat(5_000)}`;
    const packed = packUserData(script);
    expect(unpackUserData(packed)).toBe(script);
    expect(packed.length).toBeLessThan(1_000);
  });
  it('is the same for the same script, because the same request may be sent twice', () => {
    expect(packUserData('#!/bin/bash\n')).toBe(packUserData('#!/bin/bash\n'));
  });
  it('is refused where EC2 would refuse it: more than 16 KB', () => {
    expect(() => packUserData(randomBytes(20_000).toString('latin1'))).toThrow('EC2 takes 16384');
  });
});
