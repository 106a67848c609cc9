import { MalformedInput } from './errors.ts';

/**
 * Puts variables for one launch into the host's user data: `export` lines right behind the shebang.
 *
 * @param script the launch template's user data, decoded: a bash script
 * @throws MalformedInput when the script has no shebang, or a value could leave its quotes
 */
export function withVariables(script: string, variables: Readonly<Record<string, string>>): string {
  const end = script.indexOf('\n');
  if (!script.startsWith('#!') || end < 0) {
    throw new MalformedInput('the launch template has no user data that starts with #!: deploy the stack again');
  }
  const lines = Object.entries(variables).map(([name, value]) => {
    if (!/^[A-Z][A-Z_]*$/.test(name) || !/^[\w+/=.:@-]*$/.test(value)) {
      throw new MalformedInput(`${name} holds a character that user data must not carry`);
    }
    return `export ${name}='${value}'\n`;
  });
  return `${script.slice(0, end + 1)}${lines.join('')}${script.slice(end + 1)}`;
}
