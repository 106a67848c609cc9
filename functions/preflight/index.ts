import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import {
  DescribeVolumesModificationsCommand,
  EC2Client,
  paginateDescribeInstanceTypeOfferings,
  paginateDescribeInstanceTypes,
} from '@aws-sdk/client-ec2';
import { ListExecutionsCommand, SFNClient } from '@aws-sdk/client-sfn';
import { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import { Refused } from '../core/errors.ts';
import { NEWEST_AMI_PARAMETER } from '../core/host-spec.ts';
import {
  type ChangePlan,
  type InstanceTypeFacts,
  preflight,
  type Runbook,
  type RunningExecution,
  type VolumeModification,
} from '../core/preflight.ts';
import type { Database } from '../shared/database.ts';
import { requireVariable } from '../shared/environment.ts';
import { readHostSpec } from '../shared/host-spec.ts';
import { withImpairment } from '../shared/impairment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/change.ts, state "Preflight" */
export interface PreflightInput {
  readonly runbook: Runbook;
  /** What a person typed. */
  readonly request: object;
  readonly database: Database;
  readonly execution: {
    readonly name: string;
    /** ISO 8601 */
    readonly startedAt: string;
  };
}

/** The ARNs of the state machines that must not work on one database at the same time. */
const MACHINES = JSON.parse(requireVariable('MACHINES')) as readonly string[];

const ec2 = new EC2Client({});
const ssm = new SSMClient({});
const sfn = new SFNClient({});

/**
 * The first step of every runbook: whether it can do what it is asked for. It only reads.
 *
 * @throws Refused with every reason against it, one a line
 * @throws VolumeUnusable
 */
export const handler = middy(async (input: PreflightInput): Promise<ChangePlan> => {
  const { runbook, request, database, execution } = input;
  const wanted = 'instanceType' in request && typeof request.instanceType === 'string' ? [request.instanceType] : [];
  const [state, modification, types, recorded, newestAmi, running] = await Promise.all([
    observe(ec2, database).then((observed) => withImpairment(ec2, observed)),
    readModification(database.volumeId),
    readTypes([...new Set([...wanted, ...database.configuredTypes])], database.zone),
    readHostSpec(ssm, database.name),
    readNewestAmi(),
    readRunning(),
  ]);
  const result = preflight(
    runbook,
    request,
    {
      database: database.name,
      zone: database.zone,
      configuredTypes: database.configuredTypes,
      own: {
        machine: MACHINES.map(machineName).find((name) => name.endsWith(`-${runbook}`)) ?? '',
        name: execution.name,
        startedAt: Date.parse(execution.startedAt),
      },
      state,
      types,
      recorded,
      newestAmi,
      running,
      ...(modification && { modification }),
    },
    Date.now(),
  );
  logger.info('preflight', { database: database.name, execution: execution.name, runbook, ...result });
  if ('refusals' in result) throw new Refused(result.refusals.join('\n'));
  return result.plan;
}).use(injectLambdaContext(logger));

async function readModification(volumeId: string): Promise<VolumeModification | undefined> {
  // A filter instead of VolumeIds: a volume that was never modified is an empty answer, not an error code to be parsed.
  const { VolumesModifications } = await ec2.send(
    new DescribeVolumesModificationsCommand({ Filters: [{ Name: 'volume-id', Values: [volumeId] }] }),
  );
  const [newest] = (VolumesModifications ?? []).sort((a, b) => startOf(b) - startOf(a));
  if (!newest) return undefined;
  return { state: newest.ModificationState ?? 'unknown', progress: newest.Progress ?? 0, startedAt: startOf(newest) };
}

function startOf({ StartTime }: { readonly StartTime?: Date | undefined }): number {
  return StartTime?.getTime() ?? 0;
}

async function readTypes(names: string[], zone: string): Promise<Map<string, InstanceTypeFacts>> {
  const filter = { Name: 'instance-type', Values: names };
  const offered = new Set<string>();
  const offerings = paginateDescribeInstanceTypeOfferings(
    { client: ec2 },
    { LocationType: 'availability-zone', Filters: [{ Name: 'location', Values: [zone] }, filter] },
  );
  for await (const { InstanceTypeOfferings = [] } of offerings) {
    for (const { InstanceType = '' } of InstanceTypeOfferings) offered.add(InstanceType);
  }
  const types = new Map<string, InstanceTypeFacts>();
  // A filter here, too: one name that EC2 does not know would be an error for all.
  for await (const page of paginateDescribeInstanceTypes({ client: ec2 }, { Filters: [filter] })) {
    for (const { InstanceType = '', ProcessorInfo, MemoryInfo } of page.InstanceTypes ?? []) {
      types.set(InstanceType, {
        architecture: ProcessorInfo?.SupportedArchitectures?.join('/') ?? 'unknown',
        memoryMiB: MemoryInfo?.SizeInMiB ?? 0,
        offered: offered.has(InstanceType),
      });
    }
  }
  return types;
}

async function readNewestAmi(): Promise<string> {
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name: NEWEST_AMI_PARAMETER }));
  if (!Parameter?.Value) throw new Error(`the public parameter ${NEWEST_AMI_PARAMETER} has no value: try again later`);
  return Parameter.Value;
}

async function readRunning(): Promise<RunningExecution[]> {
  const lists = MACHINES.map(async (stateMachineArn) => {
    const { executions = [] } = await sfn.send(
      new ListExecutionsCommand({ stateMachineArn, statusFilter: 'RUNNING', maxResults: 100 }),
    );
    const machine = machineName(stateMachineArn);
    return executions.map(({ name = '', startDate }) => ({ machine, name, startedAt: startDate?.getTime() ?? 0 }));
  });
  return (await Promise.all(lists)).flat();
}

/** `keeper-relocate` of `arn:aws:states:us-east-1:123456789012:stateMachine:keeper-relocate` */
function machineName(arn: string): string {
  return arn.slice(arn.lastIndexOf(':') + 1);
}
