import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import {
  type ExecutionListItem,
  type ExecutionStatus,
  ListExecutionsCommand,
  SFNClient,
  StartExecutionCommand,
} from '@aws-sdk/client-sfn';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { FRESH_HOURS, mayBeDue, nightly } from '../core/backups.ts';
import { NEWEST_AMI_PARAMETER } from '../core/host-spec.ts';
import { isPlanned, mayConcern, recoveryName, relocationName } from '../core/names.ts';
import { reconcile } from '../core/reconcile.ts';
import { type DatabaseState, type HostState, holderOf, servingHost } from '../core/state.ts';
import { type Upkeep, upkeep } from '../core/upkeep.ts';
import { isOpen, type MaintenanceWindow } from '../core/window.ts';
import { requireVariable } from '../shared/environment.ts';
import { readHostSpec } from '../shared/host-spec.ts';
import { withImpairment } from '../shared/impairment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';
import { removeExpired } from './leftovers.ts';

/** What it has to know of a database. */
interface Watched {
  /** The floating private IPv4 address. */
  readonly address: string;
  readonly window: MaintenanceWindow;
}

const RELOCATE_ARN = requireVariable('RELOCATE_ARN');
/** Every state machine in which something may be done to a database. */
const MACHINES = JSON.parse(requireVariable('MACHINES')) as readonly string[];
/** The state machines of the nightly backup and of its verification, in this order. */
const [BACKUP_ARN = '', VERIFY_ARN = ''] = JSON.parse(requireVariable('BACKUPS')) as readonly string[];
const DATABASES = JSON.parse(requireVariable('DATABASES')) as Readonly<Record<string, Watched>>;

/** Failures further back have nothing to do with the present trouble. */
const FAILURES_OF_MS = 3_600_000;

const ec2 = new EC2Client({});
const ssm = new SSMClient({});
const sfn = new SFNClient({});

/**
 * Once a minute: looks at every database as it is, whatever was or was not announced, starts the relocation that nothing
 * else has started, and ends hosts that nobody waits for. The first host of a new database comes into being this way. While
 * its window is open, a database that serves well is brought back to Spot and onto the newest AMI.
 *
 * @throws AggregateError after all databases were looked at, when one of them could not be
 */
export const handler = middy(async () => {
  const now = Date.now();
  const [running, failed] = await Promise.all([executions('RUNNING'), executions('FAILED')]);
  const troubles: Error[] = [];
  for (const [name, watched] of Object.entries(DATABASES)) {
    try {
      await reconcileOne(name, watched, running, failed, now);
    } catch (error) {
      logger.error(`cannot reconcile ${name}`, error as Error);
      troubles.push(new Error(`${name}: ${(error as Error).message}`, { cause: error }));
    }
  }
  if (troubles.length > 0) throw new AggregateError(troubles, troubles.map(({ message }) => message).join('; '));
}).use(injectLambdaContext(logger));

async function reconcileOne(
  name: string,
  { address, window }: Watched,
  running: readonly ExecutionListItem[],
  failed: readonly ExecutionListItem[],
  now: number,
): Promise<void> {
  const [volumeId, takeover] = await Promise.all([
    parameter(`/keeper/${name}/volume-id`),
    parameter(`/keeper/${name}/takeover`),
  ]);
  const state = await withImpairment(ec2, await observe(ec2, { name, volumeId, address }));
  const relocations = namesOf(running).filter((execution) => mayConcern(name, execution));
  const { action, reason, strays } = reconcile(
    state,
    {
      relocations,
      failedAt: failed
        .filter((execution) => mayConcern(name, execution.name ?? '') && !isPlanned(execution.name ?? ''))
        .map(({ stopDate }) => stopDate?.getTime() ?? 0)
        .filter((at) => now - at < FAILURES_OF_MS),
      takeover: takeover.split('\n')[0] ?? '',
    },
    now,
  );
  logger.info('reconcile', { database: name, action, reason, strays: strays.map(({ id }) => id) });
  if (strays.length > 0) await ec2.send(new TerminateInstancesCommand({ InstanceIds: strays.map(({ id }) => id) }));
  if (action === 'relocate') return recover(name, holderOf(state), reason, now);
  if (relocations.length > 0) return;
  if (mayBeDue(now)) await backUp(name, servingHost(state) !== undefined, now);
  if (isOpen(window, now)) await keepUp(name, window, state, now);
  const verifications = async () => namesOf(await executions('RUNNING', VERIFY_ARN));
  await removeExpired(ec2, name, volumeId, verifications, now);
}

/** All that is heard of one host is one relocation, whoever hears it first; unless that has been, and did not help. */
async function recover(database: string, holder: HostState | undefined, reason: string, now: number): Promise<void> {
  const source = holder?.id;
  const begun = source && (await start(relocationName(database, source), { database, source, reason }));
  if (!begun) await start(recoveryName(database, now), { database, reason });
}

/** What nobody has asked for and does the database good, at a time that suits. */
async function keepUp(database: string, window: MaintenanceWindow, state: DatabaseState, now: number): Promise<void> {
  const [newestAmi, { image: recordedImage }, latest, ...runbooks] = await Promise.all([
    parameter(NEWEST_AMI_PARAMETER),
    readHostSpec(ssm, database),
    executions(),
    ...MACHINES.map((machine) => executions('RUNNING', machine)),
  ]);
  const ours = (list: readonly ExecutionListItem[]) => namesOf(list).filter((name) => mayConcern(database, name));
  const busy = runbooks.some((list) => ours(list).length > 0);
  const decision = upkeep(state, { database, window, newestAmi, recordedImage, usedNames: ours(latest), busy }, now);
  logger.info('upkeep', { database, ...decision });
  if (decision.action === 'none') return;
  await start(decision.name, { database, planned: true, reason: decision.reason, ...wishOf(decision) });
}

/** The nightly backup, which verifies itself; or the verification alone, when there was none. */
async function backUp(database: string, serves: boolean, now: number): Promise<void> {
  const [backups, verifications] = await Promise.all([
    executions(undefined, BACKUP_ARN),
    executions(undefined, VERIFY_ARN),
  ]);
  const busy = backups.some(({ name, status }) => status === 'RUNNING' && mayConcern(database, name ?? ''));
  const usedNames = namesOf([...backups, ...verifications]);
  const decision = nightly({ database, serves, usedNames, busy }, now);
  logger.info('nightly', { database, ...decision });
  if (decision.action === 'backup') await start(decision.name, { database }, BACKUP_ARN);
  if (decision.action === 'verify') await start(decision.name, { database, freshHours: FRESH_HOURS }, VERIFY_ARN);
}

function wishOf(decision: Exclude<Upkeep, { action: 'none' }>): object {
  return decision.action === 'patch' ? { host: { ami: decision.ami } } : { lifecycle: 'spot' };
}

/** @returns whether it begins now; false when an execution of this name has been before, or another tick was quicker */
async function start(name: string, input: object, stateMachineArn = RELOCATE_ARN): Promise<boolean> {
  try {
    await sfn.send(new StartExecutionCommand({ stateMachineArn, name, input: JSON.stringify(input) }));
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === 'ExecutionAlreadyExists') return false;
    throw error;
  }
}

async function executions(
  statusFilter?: ExecutionStatus,
  stateMachineArn = RELOCATE_ARN,
): Promise<ExecutionListItem[]> {
  const { executions = [] } = await sfn.send(
    new ListExecutionsCommand({ stateMachineArn, maxResults: 100, ...(statusFilter && { statusFilter }) }),
  );
  return executions;
}

function namesOf(list: readonly ExecutionListItem[]): string[] {
  return list.map(({ name }) => name ?? '');
}

async function parameter(Name: string): Promise<string> {
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name }));
  return Parameter?.Value ?? '';
}
