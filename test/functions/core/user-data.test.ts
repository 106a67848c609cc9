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
});
