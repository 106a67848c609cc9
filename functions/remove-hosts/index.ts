import { setTimeout as sleep } from 'node:timers/promises';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client, paginateDescribeInstances, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { ListExecutionsCommand, SFNClient, StopExecutionCommand } from '@aws-sdk/client-sfn';
import middy from '@middy/core';
import { mayConcern } from '../core/names.ts';
import { DATABASE_TAG, ROLE_TAG, SCRATCH_ROLE } from '../core/tags.ts';
import { logger } from '../shared/logger.ts';
import { answer, type CustomResourceRequest } from './answer.ts';

/** @see infra/keeper-stack.ts, which gives these */
interface Properties {
  /** ARNs of the state machines that may do something to a database. */
  readonly Machines: readonly string[];
  readonly Databases: readonly string[];
}

/** Between two looks, and how long hosts may take to end; the function's timeout is 15 minutes. */
const POLL_MS = 3_000;
const LIMIT_MS = 12 * 60_000;

const ec2 = new EC2Client({});
const sfn = new SFNClient({});

/**
 * A custom resource: when the stack is deleted, or a database leaves it, it stops all workflows and terminates the hosts,
 * which no template knows.
 * Volumes are none of its business: a data volume outlives its hosts. It always answers CloudFormation, with the reason.
 */
export const handler = middy(async (request: CustomResourceRequest<Properties>) => {
  try {
    await removeHosts(request.ResourceProperties.Machines, goneDatabases(request));
    await answer(request, { Status: 'SUCCESS' });
  } catch (error) {
    logger.error('hosts are left', error as Error);
    await answer(request, { Status: 'FAILED', Reason: error instanceof Error ? error.message : String(error) });
  }
}).use(injectLambdaContext(logger));

/** All of them when the stack goes, else those that have left the configuration. */
function goneDatabases(request: CustomResourceRequest<Properties>): string[] {
  const { RequestType, ResourceProperties, OldResourceProperties } = request;
  if (RequestType === 'Delete') return [...ResourceProperties.Databases];
  return (OldResourceProperties?.Databases ?? []).filter((name) => !ResourceProperties.Databases.includes(name));
}

async function removeHosts(machines: readonly string[], databases: readonly string[]): Promise<void> {
  if (databases.length === 0) return;
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    // Each time anew: a relocation that was about to launch a host may have done so after the last look.
    const stopped = (await Promise.all(machines.map((machine) => stopExecutions(machine, databases)))).flat();
    const hosts = await hostsOf(databases);
    const alive = hosts.filter(({ state }) => state !== 'shutting-down').map(({ id }) => id);
    if (alive.length > 0) await ec2.send(new TerminateInstancesCommand({ InstanceIds: alive }));
    logger.info('removing hosts', { stopped, terminated: alive, left: hosts.length });
    if (stopped.length === 0 && hosts.length === 0) return;
    if (Date.now() > end) {
      const left = hosts.map(({ id, state }) => `${id} (${state})`).join(', ');
      throw new Error(
        `these hosts have not ended within ${LIMIT_MS / 60_000} minutes: ${left}; delete the stack again`,
      );
    }
    await sleep(POLL_MS);
  }
}

async function stopExecutions(stateMachineArn: string, databases: readonly string[]): Promise<string[]> {
  const { executions = [] } = await sfn.send(new ListExecutionsCommand({ stateMachineArn, statusFilter: 'RUNNING' }));
  const theirs = executions.filter(({ name = '' }) => databases.some((database) => mayConcern(database, name)));
  for (const { executionArn } of theirs) {
    await sfn.send(
      new StopExecutionCommand({ executionArn, error: 'StackDeleted', cause: 'The stack is being deleted.' }),
    );
  }
  return theirs.map(({ name }) => name ?? '');
}

async function hostsOf(databases: readonly string[]): Promise<{ id: string; state: string }[]> {
  const pages = paginateDescribeInstances(
    { client: ec2 },
    {
      Filters: [
        { Name: `tag:${DATABASE_TAG}`, Values: [...databases] },
        { Name: `tag:${ROLE_TAG}`, Values: ['host', SCRATCH_ROLE] },
        { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped', 'shutting-down'] },
      ],
    },
  );
  const hosts: { id: string; state: string }[] = [];
  for await (const { Reservations = [] } of pages) {
    for (const { Instances = [] } of Reservations) {
      hosts.push(
        ...Instances.map(({ InstanceId = '', State }) => ({ id: InstanceId, state: State?.Name ?? 'unknown' })),
      );
    }
  }
  return hosts;
}
