import { ScriptFailed } from './shell.ts';

/** The variables that takeover.sh finds in its environment, by the lines that the launcher puts into the user data. */
export interface TakeoverVariables {
  readonly database: string;
  readonly address: string;
  readonly passwordParameter: string;
  readonly volumeId: string;
  readonly formatBlank: boolean;
  readonly taskToken: string | undefined;
}

const EXPORT_LINE = /^export (KEEPER_[A-Z_]+)='((?:[^']|'\\'')*)'$/gm;
// The script runs with `set -u`, and uses all of these.
const REQUIRED = ['DATABASE', 'REGION', 'ADDRESS', 'IMAGE', 'PASSWORD_PARAMETER', 'VOLUME_ID'];

/** @throws ScriptFailed naming a missing variable, as the shell does */
export function readUserData(userData: string): TakeoverVariables {
  const variables: Record<string, string> = {};
  for (const [, name = '', quoted = ''] of userData.matchAll(EXPORT_LINE)) {
    variables[name] = quoted.replaceAll("'\\''", "'");
  }
  for (const name of REQUIRED) {
    if (variables[`KEEPER_${name}`] === undefined) throw new ScriptFailed(1, `KEEPER_${name}: unbound variable`);
  }
  return {
    database: variables['KEEPER_DATABASE'] ?? '',
    address: variables['KEEPER_ADDRESS'] ?? '',
    passwordParameter: variables['KEEPER_PASSWORD_PARAMETER'] ?? '',
    volumeId: variables['KEEPER_VOLUME_ID'] ?? '',
    formatBlank: variables['KEEPER_FORMAT_BLANK'] === 'true',
    taskToken: variables['KEEPER_TASK_TOKEN'] || undefined,
  };
}
