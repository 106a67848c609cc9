import { GetParameterCommand, PutParameterCommand, type SSMClient } from '@aws-sdk/client-ssm';
import type { HostSpec } from '../core/host-spec.ts';

const nameOf = (database: string) => `/keeper/${database}/host`;

/** @throws Error when the parameter is missing or is no JSON */
export async function readHostSpec(ssm: SSMClient, database: string): Promise<HostSpec> {
  const Name = nameOf(database);
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name }));
  try {
    return JSON.parse(Parameter?.Value ?? '') as HostSpec;
  } catch (error) {
    throw new Error(`the parameter ${Name} is no JSON: write {"instanceTypes":["t4g.small"],"image":"…"} into it`, {
      cause: error,
    });
  }
}

/** Hosts are made like this from now on; what is not named stays as it is. */
export async function recordHostSpec(ssm: SSMClient, database: string, changes: Partial<HostSpec>): Promise<void> {
  const Value = JSON.stringify({ ...(await readHostSpec(ssm, database)), ...changes });
  await ssm.send(new PutParameterCommand({ Name: nameOf(database), Type: 'String', Value, Overwrite: true }));
}
