import { describe, expect, it } from 'vitest';
import { withVariables } from '../../../functions/core/user-data.ts';

describe('user data of one launch', () => {
  it('has its variables right behind the shebang', () => {
    expect(withVariables('#!/bin/bash\nset -e\n', { KEEPER_VOLUME_ID: 'vol-1', KEEPER_TASK_TOKEN: 'A+/=' })).toBe(
      "#!/bin/bash\nexport KEEPER_VOLUME_ID='vol-1'\nexport KEEPER_TASK_TOKEN='A+/='\nset -e\n",
    );
  });
  it.each(["'; reboot; '", 'a b', '$(reboot)', '`reboot`', 'a\nb'])(
    'refuses the value %j, which could leave its quotes',
    (value) => {
      expect(() => withVariables('#!/bin/bash\n', { KEEPER_TASK_TOKEN: value })).toThrow(
        'KEEPER_TASK_TOKEN holds a character',
      );
    },
  );
  it('refuses a template without a script', () => {
    expect(() => withVariables('', {})).toThrow('deploy the stack again');
  });
  it('refuses what EC2 would refuse: more than 16 KB', () => {
    expect(() => withVariables(`#!/bin/bash\n${'x'.repeat(16_384)}`, {})).toThrow('EC2 takes 16384');
  });
});
