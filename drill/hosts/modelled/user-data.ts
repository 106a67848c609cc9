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

/** The same for prove.sh. */
export interface ProofVariables {
  readonly database: string;
  /** Empty: none was written before the snapshot. */
  readonly census: string;
  readonly level: 'quick' | 'full';
  readonly taskToken: string;
}

const EXPORT_LINE = /^export (KEEPER_[A-Z_]+)='((?:[^']|'\\'')*)'$/gm;
// The scripts run with `set -u`, and use all of these.
const TAKEOVER = ['DATABASE', 'REGION', 'ADDRESS', 'IMAGE', 'PASSWORD_PARAMETER', 'VOLUME_ID'];
const PROOF = ['DATABASE', 'REGION', 'IMAGE', 'TASK_TOKEN', 'CENSUS', 'LEVEL'];

/** Whether the user data is prove.sh rather than takeover.sh: only that one is given a census. */
export function isProof(userData: string): boolean {
  return exported(userData)['KEEPER_CENSUS'] !== undefined;
}

/** @throws ScriptFailed naming a missing variable, as the shell does */
export function readUserData(userData: string): TakeoverVariables {
  const variables = required(userData, TAKEOVER);
  return {
    database: variables['KEEPER_DATABASE'] ?? '',
    address: variables['KEEPER_ADDRESS'] ?? '',
    passwordParameter: variables['KEEPER_PASSWORD_PARAMETER'] ?? '',
    volumeId: variables['KEEPER_VOLUME_ID'] ?? '',
    formatBlank: variables['KEEPER_FORMAT_BLANK'] === 'true',
    taskToken: variables['KEEPER_TASK_TOKEN'] || undefined,
  };
}

/** @throws ScriptFailed naming a missing variable, as the shell does */
export function readProofVariables(userData: string): ProofVariables {
  const variables = required(userData, PROOF);
  const level = variables['KEEPER_LEVEL'];
  if (level !== 'quick' && level !== 'full') throw new ScriptFailed(1, `KEEPER_LEVEL: ${level}`);
  return {
    database: variables['KEEPER_DATABASE'] ?? '',
    census: variables['KEEPER_CENSUS'] ?? '',
    level,
    taskToken: variables['KEEPER_TASK_TOKEN'] ?? '',
  };
}

function required(userData: string, names: readonly string[]): Readonly<Record<string, string>> {
  const variables = exported(userData);
  for (const name of names) {
    if (variables[`KEEPER_${name}`] === undefined) throw new ScriptFailed(1, `KEEPER_${name}: unbound variable`);
  }
  return variables;
}

function exported(userData: string): Readonly<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const [, name = '', quoted = ''] of userData.matchAll(EXPORT_LINE)) {
    variables[name] = quoted.replaceAll("'\\''", "'");
  }
  return variables;
}
