import {
  type Authorization,
  AwsError,
  type Cloud,
  NotModelled,
  type Operation,
  onlyKnown,
  type Shape,
} from '../kernel.ts';
import type { Random } from '../random.ts';
import type { Agents, InstanceLookup } from './agents.ts';
import type { Documents, PreparedCommand, PreparedStep } from './documents.ts';
import { parseSteps } from './steps.ts';
import { resourceTagContext } from './tags.ts';

/** @see docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
type StatusDetails =
  | 'Pending'
  | 'Delayed'
  | 'InProgress'
  | 'Success'
  | 'Failed'
  | 'Cancelled'
  | 'DeliveryTimedOut'
  | 'ExecutionTimedOut';

interface StepOutcome {
  readonly step: PreparedStep;
  readonly status: StatusDetails;
  readonly exitCode: number;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Command {
  readonly id: string;
  readonly documentName: string;
  readonly prepared: PreparedCommand;
  readonly comment: string;
  readonly parameters: Readonly<Record<string, string[]>>;
  readonly requestedAt: number;
  /** Not started by then, it never runs. */
  readonly deliverBefore: number;
  /** Whatever has not ended by then counts as not delivered. */
  readonly expiresAt: number;
  readonly timeoutSeconds: number;
}

interface Invocation {
  readonly command: Command;
  readonly instanceId: string;
  readonly visibleFrom: number;
  status: StatusDetails;
  /** What the agent has reported: nothing before the end. */
  outcomes: readonly StepOutcome[];
}

// Limits of the API: docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html
const DELIVERY_TIMEOUT = { min: 30, max: 2_592_000, default: 3600 };
const MAX_COMMENT_LENGTH = 100;
const MAX_INSTANCES = 50;
// …/API_GetCommandInvocation.html, …/API_CommandPlugin.html
const MAX_STDOUT = 24_000;
const MAX_STDERR = 8_000;
const MAX_PLUGIN_OUTPUT = 2_500;
// …/API_ListCommandInvocations.html
const MAX_PAGE = 50;

/** Run Command. */
export class Commands {
  readonly #cloud: Cloud;
  readonly #documents: Documents;
  readonly #agents: Agents;
  readonly #instances: InstanceLookup;
  readonly #random: Random;
  /** The newest first, as the lists show them. */
  readonly #invocations: Invocation[] = [];

  constructor(cloud: Cloud, documents: Documents, agents: Agents, instances: InstanceLookup) {
    this.#cloud = cloud;
    this.#documents = documents;
    this.#agents = agents;
    this.#instances = instances;
    this.#random = cloud.random.fork('ssm');
  }

  readonly operations: Readonly<Record<string, Operation>> = {
    SendCommand: {
      authorize: (input) => this.#sendAuthorizations(input),
      invoke: (input) => this.#send(input),
    },
    GetCommandInvocation: {
      authorize: () => [{ action: 'ssm:GetCommandInvocation', resource: '*' }],
      invoke: (input) => this.#getInvocation(input),
    },
    ListCommandInvocations: {
      authorize: () => [{ action: 'ssm:ListCommandInvocations', resource: '*' }],
      invoke: (input) => this.#listInvocations(input),
    },
    CancelCommand: {
      authorize: () => [{ action: 'ssm:CancelCommand', resource: '*' }],
      invoke: (input) => this.#cancel(input),
    },
    DescribeInstanceInformation: {
      authorize: () => [{ action: 'ssm:DescribeInstanceInformation', resource: '*' }],
      invoke: (input) => this.#describeInstances(input),
    },
  };

  #sendAuthorizations({ DocumentName, InstanceIds }: Shape): Authorization[] {
    const action = 'ssm:SendCommand';
    const prefixes = ['aws:ResourceTag', 'ssm:resourceTag'];
    return [
      {
        action,
        resource: this.#documents.arnOf(DocumentName),
        context: resourceTagContext(this.#documents.tagsOf(DocumentName), prefixes),
      },
      ...(InstanceIds as string[]).map((instanceId) => ({
        action,
        resource: this.#cloud.arn('ec2', `instance/${instanceId}`),
        context: resourceTagContext(this.#instances(instanceId)?.tags ?? {}, prefixes),
      })),
    ];
  }

  #send(input: Shape): Shape {
    onlyKnown('SendCommand', input, [
      'DocumentName',
      'DocumentVersion',
      'InstanceIds',
      'Parameters',
      'TimeoutSeconds',
      'Comment',
    ]);
    const timeoutSeconds = input.TimeoutSeconds ?? DELIVERY_TIMEOUT.default;
    within('timeoutSeconds', timeoutSeconds, DELIVERY_TIMEOUT.min, DELIVERY_TIMEOUT.max);
    within('comment length', (input.Comment ?? '').length, 0, MAX_COMMENT_LENGTH);
    within('instanceIds length', input.InstanceIds.length, 1, MAX_INSTANCES);
    const parameters = input.Parameters ?? {};
    const prepared = this.#documents.prepare(input.DocumentName, input.DocumentVersion, parameters);
    this.#checkInstances(input.InstanceIds);
    const now = this.#cloud.clock.now();
    const deliverBefore = now + timeoutSeconds * 1000;
    const executionSeconds = prepared.steps.reduce((sum, step) => sum + step.timeoutSeconds, 0);
    const command: Command = {
      id: this.#uuid(),
      documentName: input.DocumentName,
      prepared,
      comment: input.Comment ?? '',
      parameters,
      requestedAt: now,
      deliverBefore,
      expiresAt: deliverBefore + executionSeconds * 1000,
      timeoutSeconds,
    };
    for (const instanceId of input.InstanceIds) this.#start(command, instanceId);
    return { Command: describeCommand(command, input.InstanceIds) };
  }

  #checkInstances(instanceIds: readonly string[]): void {
    if (new Set(instanceIds).size < instanceIds.length) {
      throw new AwsError('DuplicateInstanceId', "You can't specify a managed node ID in more than one association.");
    }
    const unreachable = instanceIds.filter((instanceId) => this.#agents.pingStatus(instanceId) !== 'Online');
    if (unreachable.length > 0) {
      throw new AwsError(
        'InvalidInstanceId',
        `Instances [[${unreachable.join(', ')}]] not in a valid state for account ${this.#cloud.account}`,
      );
    }
  }

  #start(command: Command, instanceId: string): void {
    const { clock } = this.#cloud;
    const invocation: Invocation = {
      command,
      instanceId,
      visibleFrom: clock.now() + this.#cloud.latency('ssm.invocationLag', instanceId),
      status: 'Pending',
      outcomes: [],
    };
    this.#invocations.unshift(invocation);
    this.#recordPhase(invocation, 'sent');
    const expiry = clock.after(command.expiresAt - clock.now(), () => this.#end(invocation, 'DeliveryTimedOut'));
    this.#carryOut(invocation)
      .catch((error: Error) => this.#cloud.fail(error))
      .finally(() => {
        if (hasEnded(invocation)) expiry.cancel();
      });
  }

  async #carryOut(invocation: Invocation): Promise<void> {
    const { command, instanceId } = invocation;
    const { clock } = this.#cloud;
    await clock.sleep(this.#cloud.latency('ssm.deliver', instanceId));
    if (hasEnded(invocation)) return;
    if (!this.#agents.answers(instanceId)) {
      this.#setStatus(invocation, 'Delayed');
      return;
    }
    const release = await this.#agents.worker(instanceId);
    try {
      if (hasEnded(invocation) || clock.now() > command.deliverBefore || !this.#agents.answers(instanceId)) return;
      this.#setStatus(invocation, 'InProgress');
      this.#recordPhase(invocation, 'delivered');
      const outcomes = await this.#runSteps(invocation);
      this.#recordPhase(invocation, 'ended', {
        exitCode: outcomes.at(-1)?.exitCode,
        stderr: outcomes.at(-1)?.stderr.trim(),
        steps: outcomes.flatMap((outcome) => parseSteps(outcome.stdout)),
      });
      await this.#report(invocation, outcomes);
    } finally {
      release();
    }
  }

  // A failed step does not keep the next ones from running.
  async #runSteps({ command, instanceId }: Invocation): Promise<StepOutcome[]> {
    const { clock } = this.#cloud;
    const outcomes: StepOutcome[] = [];
    for (const step of command.prepared.steps) {
      const instance = this.#instances(instanceId);
      if (!instance?.host) break;
      const startedAt = clock.now();
      const result = await instance.host.run({
        document: command.documentName,
        script: step.script,
        environment: command.prepared.environment,
        timeoutSeconds: step.timeoutSeconds,
      });
      const failure = result.timedOut ? 'ExecutionTimedOut' : 'Failed';
      outcomes.push({
        step,
        status: result.exitCode === 0 ? 'Success' : failure,
        exitCode: result.exitCode,
        startedAt,
        endedAt: clock.now(),
        stdout: result.stdout,
        stderr: result.stderr,
      });
    }
    return outcomes;
  }

  // An agent that has died, or whose instance is going away, reports nothing: the command then stays InProgress.
  async #report(invocation: Invocation, outcomes: readonly StepOutcome[]): Promise<void> {
    if (!this.#agents.answers(invocation.instanceId)) return;
    await this.#cloud.clock.sleep(this.#cloud.latency('ssm.report', invocation.instanceId));
    if (hasEnded(invocation)) return;
    invocation.outcomes = outcomes;
    this.#end(invocation, outcomes.find((outcome) => outcome.status !== 'Success')?.status ?? 'Success');
  }

  #end(invocation: Invocation, status: StatusDetails): void {
    if (hasEnded(invocation)) return;
    this.#setStatus(invocation, status);
    this.#recordPhase(invocation, 'reported');
  }

  #setStatus(invocation: Invocation, status: StatusDetails): void {
    invocation.status = status;
    const { command, instanceId } = invocation;
    const now = new Date(this.#cloud.clock.now());
    this.#cloud.emit({
      version: '0',
      id: this.#uuid(),
      'detail-type': 'EC2 Command Invocation Status-change Notification',
      source: 'aws.ssm',
      account: this.#cloud.account,
      time: now.toISOString().replace(/\.\d+Z$/, 'Z'),
      region: this.#cloud.region,
      resources: [this.#cloud.arn('ec2', `instance/${instanceId}`)],
      detail: {
        'command-id': command.id,
        'document-name': command.documentName,
        'instance-id': instanceId,
        'requested-date-time': new Date(command.requestedAt).toISOString(),
        status: broadStatus(status),
      },
    });
  }

  #recordPhase(invocation: Invocation, phase: string, detail: Readonly<Record<string, unknown>> = {}): void {
    const { command, instanceId, status } = invocation;
    this.#cloud.record('command', command.id, {
      phase,
      document: command.documentName,
      instanceId,
      comment: command.comment,
      status,
      ...detail,
    });
  }

  #getInvocation(input: Shape): Shape {
    onlyKnown('GetCommandInvocation', input, ['CommandId', 'InstanceId', 'PluginName']);
    const invocation = this.#visible().find(
      ({ command, instanceId }) => command.id === input.CommandId && instanceId === input.InstanceId,
    );
    if (!invocation) throw new AwsError('InvocationDoesNotExist', '');
    const { command, instanceId } = invocation;
    const { steps } = command.prepared;
    const step =
      input.PluginName === undefined && steps.length === 1
        ? steps[0]
        : steps.find((candidate) => candidate.name === input.PluginName);
    if (!step) throw new AwsError('InvalidPluginName', "The plugin name isn't valid.");
    const outcome = invocation.outcomes.find((candidate) => candidate.step === step);
    const status = outcome?.status ?? invocation.status;
    return {
      CommandId: command.id,
      InstanceId: instanceId,
      Comment: command.comment,
      DocumentName: command.documentName,
      DocumentVersion: command.prepared.documentVersion,
      PluginName: step.name,
      ResponseCode: outcome?.exitCode ?? -1,
      ExecutionStartDateTime: outcome ? new Date(outcome.startedAt).toISOString() : '',
      ExecutionElapsedTime: outcome ? `PT${(outcome.endedAt - outcome.startedAt) / 1000}S` : '',
      ExecutionEndDateTime: outcome ? new Date(outcome.endedAt).toISOString() : '',
      Status: broadStatus(status),
      StatusDetails: status,
      StandardOutputContent: outcome?.stdout.slice(0, MAX_STDOUT) ?? '',
      StandardOutputUrl: '',
      StandardErrorContent: outcome?.stderr.slice(0, MAX_STDERR) ?? '',
      StandardErrorUrl: '',
      CloudWatchOutputConfig: { CloudWatchLogGroupName: '', CloudWatchOutputEnabled: false },
    };
  }

  #listInvocations(input: Shape): Shape {
    onlyKnown('ListCommandInvocations', input, [
      'CommandId',
      'InstanceId',
      'MaxResults',
      'NextToken',
      'Filters',
      'Details',
    ]);
    within('maxResults', input.MaxResults ?? MAX_PAGE, 1, MAX_PAGE);
    const filters: Shape[] = input.Filters ?? [];
    const matching = this.#visible().filter(
      (invocation) =>
        (input.CommandId === undefined || invocation.command.id === input.CommandId) &&
        (input.InstanceId === undefined || invocation.instanceId === input.InstanceId) &&
        filters.every((filter) => passes(invocation, filter.key, filter.value)),
    );
    const from = input.NextToken === undefined ? 0 : Number(input.NextToken);
    const to = from + (input.MaxResults ?? MAX_PAGE);
    return {
      CommandInvocations: matching
        .slice(from, to)
        .map((invocation) => describeInvocation(invocation, input.Details === true)),
      ...(to < matching.length && { NextToken: String(to) }),
    };
  }

  // What already runs is left to run: AWS gives no guarantee that a process is stopped.
  #cancel(input: Shape): Shape {
    onlyKnown('CancelCommand', input, ['CommandId', 'InstanceIds']);
    const invocations = this.#invocations.filter(({ command }) => command.id === input.CommandId);
    if (invocations.length === 0) throw new AwsError('InvalidCommandId', '');
    for (const invocation of invocations) {
      const asked = input.InstanceIds === undefined || input.InstanceIds.includes(invocation.instanceId);
      const waits = invocation.status === 'Pending' || invocation.status === 'Delayed';
      if (asked && waits) this.#end(invocation, 'Cancelled');
    }
    return {};
  }

  #describeInstances(input: Shape): Shape {
    onlyKnown('DescribeInstanceInformation', input, ['Filters']);
    let instanceIds = this.#agents.registered();
    for (const filter of (input.Filters ?? []) as Shape[]) {
      if (filter.Key !== 'InstanceIds') throw new NotModelled(`DescribeInstanceInformation: a filter by ${filter.Key}`);
      instanceIds = instanceIds.filter((instanceId) => filter.Values.includes(instanceId));
    }
    return {
      InstanceInformationList: instanceIds.map((instanceId) => ({
        InstanceId: instanceId,
        PingStatus: this.#agents.pingStatus(instanceId),
        LastPingDateTime: new Date(this.#agents.lastPing(instanceId) ?? 0),
        PlatformType: 'Linux',
        PlatformName: 'Amazon Linux',
        PlatformVersion: '2023',
        ResourceType: 'EC2Instance',
      })),
    };
  }

  #visible(): Invocation[] {
    const now = this.#cloud.clock.now();
    return this.#invocations.filter((invocation) => invocation.visibleFrom <= now);
  }

  #uuid(): string {
    const hex = this.#random.hex(32);
    return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20)].join(
      '-',
    );
  }
}

function hasEnded({ status }: Invocation): boolean {
  return status !== 'Pending' && status !== 'Delayed' && status !== 'InProgress';
}

/** The coarser `Status` that goes with a `StatusDetails`. */
function broadStatus(details: StatusDetails): string {
  return details === 'DeliveryTimedOut' || details === 'ExecutionTimedOut' ? 'TimedOut' : details;
}

function passes(invocation: Invocation, key: string, value: string): boolean {
  switch (key) {
    case 'Status':
      return broadStatus(invocation.status) === value;
    case 'DocumentName':
      return invocation.command.documentName === value;
    case 'InvokedAfter':
      return invocation.command.requestedAt >= Date.parse(value);
    case 'InvokedBefore':
      return invocation.command.requestedAt < Date.parse(value);
    default:
      throw new NotModelled(`ListCommandInvocations: a filter by ${key}`);
  }
}

function describeCommand(command: Command, instanceIds: readonly string[]): Shape {
  return {
    CommandId: command.id,
    DocumentName: command.documentName,
    DocumentVersion: command.prepared.documentVersion,
    Comment: command.comment,
    ExpiresAfter: new Date(command.expiresAt),
    Parameters: command.parameters,
    InstanceIds: instanceIds,
    Targets: [],
    RequestedDateTime: new Date(command.requestedAt),
    Status: 'Pending',
    StatusDetails: 'Pending',
    OutputS3BucketName: '',
    OutputS3KeyPrefix: '',
    MaxConcurrency: '50',
    MaxErrors: '0',
    TargetCount: instanceIds.length,
    CompletedCount: 0,
    ErrorCount: 0,
    DeliveryTimedOutCount: 0,
    ServiceRole: '',
    CloudWatchOutputConfig: { CloudWatchLogGroupName: '', CloudWatchOutputEnabled: false },
    TimeoutSeconds: command.timeoutSeconds,
  };
}

function describeInvocation(invocation: Invocation, details: boolean): Shape {
  const { command, instanceId, status } = invocation;
  return {
    CommandId: command.id,
    InstanceId: instanceId,
    InstanceName: '',
    Comment: command.comment,
    DocumentName: command.documentName,
    DocumentVersion: command.prepared.documentVersion,
    RequestedDateTime: new Date(command.requestedAt),
    Status: broadStatus(status),
    StatusDetails: status,
    StandardOutputUrl: '',
    StandardErrorUrl: '',
    CommandPlugins: details ? command.prepared.steps.map((step) => describePlugin(invocation, step)) : [],
    ServiceRole: '',
    CloudWatchOutputConfig: { CloudWatchLogGroupName: '', CloudWatchOutputEnabled: false },
  };
}

function describePlugin(invocation: Invocation, step: PreparedStep): Shape {
  const outcome = invocation.outcomes.find((candidate) => candidate.step === step);
  const status = outcome?.status ?? invocation.status;
  return {
    Name: step.name,
    Status: broadStatus(status),
    StatusDetails: status,
    ResponseCode: outcome?.exitCode ?? -1,
    ...(outcome && {
      ResponseStartDateTime: new Date(outcome.startedAt),
      ResponseFinishDateTime: new Date(outcome.endedAt),
    }),
    Output: `${outcome?.stdout ?? ''}${outcome?.stderr ? `\n----------ERROR-------\n${outcome.stderr}` : ''}`.slice(
      0,
      MAX_PLUGIN_OUTPUT,
    ),
    StandardOutputUrl: '',
    StandardErrorUrl: '',
    OutputS3Region: '',
    OutputS3BucketName: '',
    OutputS3KeyPrefix: '',
  };
}

function within(member: string, value: number, min: number, max: number): void {
  if (value >= min && value <= max) return;
  const bound = value < min ? `greater than or equal to ${min}` : `less than or equal to ${max}`;
  throw new AwsError(
    'ValidationException',
    `1 validation error detected: Value '${value}' at '${member}' failed to satisfy constraint: Member must have value ${bound}`,
  );
}
