import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { type ExecutionListItem, ListExecutionsCommand, SFNClient, StartExecutionCommand } from '@aws-sdk/client-sfn';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { mayConcern, recoveryName } from '../core/names.ts';
import { reconcile } from '../core/reconcile.ts';
import { requireVariable } from '../shared/environment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** What it has to know of each database: the floating address by name. */
type Databases = Readonly<Record<string, { readonly address: string }>>;

const RELOCATE_ARN = requireVariable('RELOCATE_ARN');
const DATABASES = JSON.parse(requireVariable('DATABASES')) as Databases;

/** Failures further back have nothing to do with the present trouble. */
const FAILURES_OF_MS = 3_600_000;

const ec2 = new EC2Client({});
const ssm = new SSMClient({});
const sfn = new SFNClient({});

/**
 * Once a minute: looks at every database as it is, whatever was or was not announced, starts the relocation that nothing
 * else has started, and ends hosts that nobody waits for. The first host of a new database comes into being this way.
 *
 * @throws AggregateError after all databases were looked at, when one of them could not be
 */
export const handler = middy(async () => {
  const now = Date.now();
  const [running, failed] = await Promise.all([executions('RUNNING'), executions('FAILED')]);
  const troubles: Error[] = [];
  for (const [name, { address }] of Object.entries(DATABASES)) {
    try {
      await reconcileOne(name, address, running, failed, now);
    } catch (error) {
      logger.error(`cannot reconcile ${name}`, error as Error);
      troubles.push(new Error(`${name}: ${(error as Error).message}`, { cause: error }));
    }
  }
  if (troubles.length > 0) throw new AggregateError(troubles, troubles.map(({ message }) => message).join('; '));
}).use(injectLambdaContext(logger));

async function reconcileOne(
  name: string,
  address: string,
  running: readonly ExecutionListItem[],
  failed: readonly ExecutionListItem[],
  now: number,
): Promise<void> {
  const [volumeId, takeover] = await Promise.all([parameter(name, 'volume-id'), parameter(name, 'takeover')]);
  const state = await observe(ec2, { name, volumeId, address });
  const { action, reason, strays } = reconcile(
    state,
    {
      relocations: namesOf(running).filter((execution) => mayConcern(name, execution)),
      failedAt: failed
        .filter((execution) => mayConcern(name, execution.name ?? ''))
        .map(({ stopDate }) => stopDate?.getTime() ?? 0)
        .filter((at) => now - at < FAILURES_OF_MS),
      takeover: takeover.split('\n')[0] ?? '',
    },
    now,
  );
  logger.info('reconcile', { database: name, action, reason, strays: strays.map(({ id }) => id) });
  if (strays.length > 0) await ec2.send(new TerminateInstancesCommand({ InstanceIds: strays.map(({ id }) => id) }));
  if (action === 'relocate') await startRecovery(name, reason, now);
}

async function startRecovery(database: string, reason: string, now: number): Promise<void> {
  const input = JSON.stringify({ database, reason });
  const name = recoveryName(database, now);
  try {
    await sfn.send(new StartExecutionCommand({ stateMachineArn: RELOCATE_ARN, name, input }));
  } catch (error) {
    // A duplicate of this minute's tick has started it.
    if (!(error instanceof Error && error.name === 'ExecutionAlreadyExists')) throw error;
  }
}

async function executions(statusFilter: 'RUNNING' | 'FAILED'): Promise<ExecutionListItem[]> {
  const { executions = [] } = await sfn.send(
    new ListExecutionsCommand({ stateMachineArn: RELOCATE_ARN, statusFilter, maxResults: 100 }),
  );
  return executions;
}

function namesOf(list: readonly ExecutionListItem[]): string[] {
  return list.map(({ name }) => name ?? '');
}

async function parameter(database: string, name: 'volume-id' | 'takeover'): Promise<string> {
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name: `/keeper/${database}/${name}` }));
  return Parameter?.Value ?? '';
}
