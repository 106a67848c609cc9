import { MalformedInput } from './errors.ts';

/** EC2's limit for user data before base64. @see docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html */
export const USER_DATA_LIMIT_BYTES = 16_384;

/**
 * Puts variables for one launch into the host's user data: `export` lines right behind the shebang.
 *
 * @param script the launch template's user data, decoded: a bash script
 * @throws MalformedInput when the script has no shebang, a value could leave its quotes, or the result is too long
 */
export function withVariables(script: string, variables: Readonly<Record<string, string>>): string {
  const end = script.indexOf('\n');
  if (!script.startsWith('#!') || end < 0) {
    throw new MalformedInput('the launch template has no user data that starts with #!: deploy the stack again');
  }
  const lines = Object.entries(variables).map(([name, value]) => {
    if (!/^[A-Z][A-Z_]*$/.test(name) || !/^[\w+/=.:-]*$/.test(value)) {
      throw new MalformedInput(`${name} holds a character that user data must not carry`);
    }
    return `export ${name}='${value}'\n`;
  });
  const result = `${script.slice(0, end + 1)}${lines.join('')}${script.slice(end + 1)}`;
  const bytes = Buffer.byteLength(result);
  if (bytes > USER_DATA_LIMIT_BYTES) {
    throw new MalformedInput(
      `the user data would have ${bytes} bytes; EC2 takes ${USER_DATA_LIMIT_BYTES}: shorten commands/takeover.sh`,
    );
  }
  return result;
}
