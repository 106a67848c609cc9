import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client } from '@aws-sdk/client-ec2';
import { ListExecutionsCommand, SFNClient, StartExecutionCommand } from '@aws-sdk/client-sfn';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { VolumeUnusable } from '../core/errors.ts';
import { mayConcern, recoveryName } from '../core/names.ts';
import { reconcile } from '../core/reconcile.ts';
import { requireVariable } from '../shared/environment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** What it has to know of each database: the floating address by name. */
type Databases = Readonly<Record<string, { readonly address: string }>>;

const RELOCATE_ARN = requireVariable('RELOCATE_ARN');
const DATABASES = JSON.parse(requireVariable('DATABASES')) as Databases;

const ec2 = new EC2Client({});
const ssm = new SSMClient({});
const sfn = new SFNClient({});

/**
 * Once a minute: looks at every database as it is, whatever was or was not announced, and starts the relocation that
 * nothing else has started. The first host of a new database comes into being this way.
 */
export const handler = middy(async () => {
  const running = await runningRelocations();
  for (const [name, { address }] of Object.entries(DATABASES)) {
    const volumeId = await volumeIdOf(name);
    const state = await observe(ec2, { name, volumeId, address });
    const { action, reason } = reconcile(
      state,
      running.some((execution) => mayConcern(name, execution)),
    );
    logger.info('reconcile', { database: name, action, reason });
    if (action !== 'relocate') continue;
    await sfn.send(
      new StartExecutionCommand({
        stateMachineArn: RELOCATE_ARN,
        name: recoveryName(name, Date.now()),
        input: JSON.stringify({ database: name, reason }),
      }),
    );
  }
}).use(injectLambdaContext(logger));

async function runningRelocations(): Promise<string[]> {
  const { executions } = await sfn.send(
    new ListExecutionsCommand({ stateMachineArn: RELOCATE_ARN, statusFilter: 'RUNNING' }),
  );
  return (executions ?? []).map((execution) => execution.name ?? '');
}

async function volumeIdOf(database: string): Promise<string> {
  const name = `/keeper/${database}/volume-id`;
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name: name }));
  if (!Parameter?.Value)
    throw new VolumeUnusable(`the parameter ${name} is empty: write the id of the live data volume into it`);
  return Parameter.Value;
}
