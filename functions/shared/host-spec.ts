import { GetParametersByPathCommand, PutParameterCommand, type SSMClient } from '@aws-sdk/client-ssm';
import type { HostSpec } from '../core/host-spec.ts';

const pathOf = (database: string) => `/keeper/${database}/host`;

/** One parameter a field, so that a deployment which changes one of them leaves what was recorded in the others. */
const NAMES = { instanceTypes: 'instance-types', image: 'image', ami: 'ami' } as const;

/** The AMI of the launch template, as a parameter says it: its value cannot be empty. */
const TEMPLATES_AMI = 'of-the-launch-template';

/** @throws Error when a parameter is missing */
export async function readHostSpec(ssm: SSMClient, database: string): Promise<HostSpec> {
  const Path = pathOf(database);
  const { Parameters = [] } = await ssm.send(new GetParametersByPathCommand({ Path }));
  const value = (name: string): string => {
    const found = Parameters.find(({ Name }) => Name === `${Path}/${name}`)?.Value;
    if (!found) throw new Error(`the parameter ${Path}/${name} is missing: deploy the data stack again`);
    return found;
  };
  const ami = value(NAMES.ami);
  return {
    instanceTypes: value(NAMES.instanceTypes).split(','),
    image: value(NAMES.image),
    ...(ami !== TEMPLATES_AMI && { ami }),
  };
}

/** Hosts are made like this from now on; what is not named stays as it is. */
export async function recordHostSpec(ssm: SSMClient, database: string, changes: Partial<HostSpec>): Promise<void> {
  const values = {
    [NAMES.instanceTypes]: changes.instanceTypes?.join(','),
    [NAMES.image]: changes.image,
    [NAMES.ami]: changes.ami,
  };
  for (const [name, Value] of Object.entries(values)) {
    if (Value === undefined) continue;
    const Name = `${pathOf(database)}/${name}`;
    await ssm.send(new PutParameterCommand({ Name, Type: 'String', Value, Overwrite: true }));
  }
}
