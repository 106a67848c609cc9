import { globSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readCommand } from '../../infra/command.ts';

const COMMANDS = globSync('*.sh', { cwd: fileURLToPath(new URL('../../commands', import.meta.url)) });

describe('the text of a command', () => {
  it.each(['takeover', 'prove'])('has what it includes in its place (%s)', (name) => {
    expect(readCommand(name).match(/^install_docker\(\) \{$/gm)).toHaveLength(1);
    expect(readCommand(name).match(/^#!/gm)).toHaveLength(1);
  });

  it.each(COMMANDS)('is complete (%s)', (file) => {
    expect(readCommand(basename(file, '.sh'))).not.toContain('# include:');
  });
});
