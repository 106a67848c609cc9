import { setTimeout as sleep } from 'node:timers/promises';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import {
  AssignPrivateIpAddressesCommand,
  AttachVolumeCommand,
  DetachVolumeCommand,
  EC2Client,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { ListCommandInvocationsCommand, SendCommandCommand, SSMClient } from '@aws-sdk/client-ssm';
import middy from '@middy/core';
import {
  type Action,
  type Decision,
  decide,
  type Goal,
  RELEASE_DELIVERY_SECONDS,
  type ReleaseState,
} from '../core/decide.ts';
import { VolumeUnusable } from '../core/errors.ts';
import { type DatabaseState, type HostState, holderOf } from '../core/state.ts';
import type { Database } from '../shared/database.ts';
import { requireVariable } from '../shared/environment.ts';
import { logger } from '../shared/logger.ts';
import { observe } from '../shared/observe.ts';

/** @see workflows/relocate.ts, state "Move the volume" */
export interface MoveInput {
  readonly database: Database;
  readonly execution: string;
  readonly source?: string;
  /** The armed replacement; absent when none has reported. */
  readonly target?: string;
  /** Milliseconds since the epoch. */
  readonly deadline?: number;
  /** Whether the source is to be terminated instead of being asked to release. */
  readonly fenceSource: boolean;
  /** Whether the source is a host that this relocation brought the database to, and that did not serve. */
  readonly sourceFailed: boolean;
  /** Whether the source is left alone when it does not even begin to release. */
  readonly mayStay: boolean;
  /** When this relocation last looked around, in milliseconds since the epoch. */
  readonly startedAt: number;
  /** When the execution started, ISO 8601: no command of it is older. */
  readonly executionStartedAt: string;
}

export interface MoveResult {
  /** `again`: not there yet, call again with the same input. */
  readonly outcome: 'moved' | 'again' | 'replace' | 'superseded' | 'called-off';
  readonly reason: string;
  /** Whether the source has been asked to release and may have stopped the database. */
  readonly releaseSent: boolean;
  /** The host that has the volume, where one has it. */
  readonly host?: string;
}

const RELEASE_DOCUMENT = requireVariable('RELEASE_DOCUMENT');

/** Between two looks. EC2 refills 20 filtered describe calls a second (EC2 API throttling); two looks take four. */
const POLL_MS = 250;
/** One invocation ends well before the function's timeout, so that the state machine sees what happens. */
const WINDOW_MS = 45_000;

const ec2 = new EC2Client({});
const ssm = new SSMClient({});

/**
 * Observes, decides, acts, and looks again until the volume and the address are where they are to be. Every action can
 * be asked for twice, so an invocation that dies at any point is followed by another with the same input.
 *
 * @throws VolumeUnusable when going on would be wrong
 */
export const handler = middy(async (input: MoveInput): Promise<MoveResult> => {
  const goal: Goal = {
    execution: input.execution,
    startedAt: input.startedAt,
    fenceSource: input.fenceSource,
    sourceFailed: input.sourceFailed,
    mayStay: input.mayStay,
    ...(input.source && { sourceId: input.source }),
    ...(input.target && { targetId: input.target }),
    ...(input.deadline && { deadline: input.deadline }),
  };
  const started = Date.now();
  const asked: Partial<Record<Action['kind'], number>> = {};
  /** The host whose release command is looked at: the holder, as far as the last look knew. */
  let watched = input.source;
  let sent: ReleaseState | undefined;
  let releaseSent = false;
  let said = '';
  const again = (reason: string): MoveResult => ({ outcome: 'again', reason, releaseSent });

  for (;;) {
    const looks = Promise.all([observe(ec2, input.database), releaseState(watched, input, sent)]);
    const [state, release] = await looks.catch((error: Error) => {
      explainAway(error);
      return [];
    });
    if (!state) {
      if (Date.now() - started > WINDOW_MS) return again('AWS does not say how things stand');
      await sleep(POLL_MS);
      continue;
    }
    releaseSent ||= release !== undefined && release.status !== 'refused' && release.status !== 'undelivered';
    const holder = holderOf(state);
    if (holder && holder.id !== watched && holder.id !== input.target) {
      watched = holder.id;
      sent = undefined;
      continue;
    }
    const { action, reason } = decide(
      { ...state, asked, ...(release && holder?.id === watched && { release }) },
      goal,
      Date.now(),
    );
    if (reason !== said) logger.info('decision', { execution: input.execution, action: action.kind, reason });
    said = reason;

    const result = conclude({ action, reason }, state);
    if (result) return { ...result, releaseSent };
    if ('host' in action) {
      const refusal = await act(action, input).then(() => undefined, explainAway);
      if (action.kind === 'release') sent = sentNow(sent, refusal);
      // What was refused may be asked for again at once, but for a command: its agent does not come within a moment.
      if (!refusal || action.kind === 'release') asked[action.kind] = Date.now();
    }
    if (Date.now() - started > WINDOW_MS) return again(reason);
    await sleep(POLL_MS);
  }
}).use(injectLambdaContext(logger));

/** What ends the loop. */
function conclude({ action, reason }: Decision, state: DatabaseState): Omit<MoveResult, 'releaseSent'> | undefined {
  const host = state.volume.attachment?.hostId;
  switch (action.kind) {
    case 'done':
      return { outcome: 'moved', reason, host: action.host.id };
    case 'replace':
    case 'superseded':
      return { outcome: action.kind, reason, ...(host && { host }) };
    case 'call-off':
      return { outcome: 'called-off', reason };
    case 'refuse':
      throw new VolumeUnusable(reason);
    default:
      return undefined;
  }
}

async function act(action: Extract<Action, { host: HostState }>, { database, execution }: MoveInput): Promise<void> {
  const { host } = action;
  switch (action.kind) {
    case 'release':
      await ssm.send(
        new SendCommandCommand({
          DocumentName: RELEASE_DOCUMENT,
          InstanceIds: [host.id],
          Parameters: { volumeId: [database.volumeId] },
          TimeoutSeconds: RELEASE_DELIVERY_SECONDS,
          Comment: execution, // by which an invocation after a crash finds the command again
        }),
      );
      return;
    case 'fence':
      logger.warn('fencing', { execution, host: host.id });
      await ec2.send(new TerminateInstancesCommand({ InstanceIds: [host.id], SkipOsShutdown: true }));
      return;
    case 'detach':
      await ec2.send(new DetachVolumeCommand({ VolumeId: database.volumeId, InstanceId: host.id }));
      return;
    case 'attach':
      // The device name is EC2's bookkeeping only: an NVMe guest finds the volume by its id.
      await ec2.send(new AttachVolumeCommand({ VolumeId: database.volumeId, InstanceId: host.id, Device: '/dev/sdf' }));
      return;
    case 'assign-address':
      await ec2.send(
        new AssignPrivateIpAddressesCommand({
          NetworkInterfaceId: host.interfaceId,
          PrivateIpAddresses: [database.address],
          AllowReassignment: true,
        }),
      );
      return;
    case 'done':
  }
}

/**
 * Answers that only say that the world has moved on since the last look, or that AWS is busy: the next look decides.
 * Everything else is thrown.
 */
const PASSING = new Set([
  'IncorrectState',
  'IncorrectInstanceState',
  'VolumeInUse',
  'InvalidAttachment.NotFound',
  'InvalidInstanceID.NotFound',
  'InvalidInstanceId', // Systems Manager: the agent is not there (any longer); the release times out, or the host is gone
  'RequestLimitExceeded',
  'ThrottlingException',
  'InternalError',
  'InternalServerError',
  'Unavailable',
  'ServiceUnavailable',
]);

function explainAway(error: Error): Error {
  if (!PASSING.has(error.name) && !isModifying(error) && !isTheirs(error)) throw error;
  logger.warn('asked again later', { error: error.name, detail: error.message });
  return error;
}

/** A volume cannot be attached in the seconds in which it begins to grow: github.com/hashicorp/terraform-provider-aws/issues/12748 */
function isModifying({ name, message }: Error): boolean {
  return name === 'OperationNotPermitted' && message.includes('modification state');
}

/** An error of AWS's own, whatever it is called. */
function isTheirs(error: Error & { readonly $metadata?: { readonly httpStatusCode?: number } }): boolean {
  return (error.$metadata?.httpStatusCode ?? 0) >= 500;
}

/** What is known of the release command right after it was sent, or was refused; the time counts from the first try. */
function sentNow(before: ReleaseState | undefined, refusal: Error | undefined): ReleaseState {
  return refusal
    ? { status: 'refused', sentAt: before?.sentAt ?? Date.now(), detail: refusal.message }
    : { status: 'waiting', sentAt: Date.now(), detail: 'sent' };
}

/** How this relocation's release command on the host stands; undefined when it has sent none. */
async function releaseState(
  hostId: string | undefined,
  { execution, executionStartedAt, target }: MoveInput,
  sent: ReleaseState | undefined,
): Promise<ReleaseState | undefined> {
  if (!hostId || hostId === target) return undefined;
  const { CommandInvocations } = await ssm.send(
    new ListCommandInvocationsCommand({
      InstanceId: hostId,
      Details: true,
      Filters: [{ key: 'InvokedAfter', value: `${executionStartedAt.slice(0, 19)}Z` }],
    }),
  );
  const ours = (CommandInvocations ?? [])
    .filter((each) => each.Comment === execution && each.DocumentName === RELEASE_DOCUMENT)
    .sort((a, b) => (b.RequestedDateTime?.getTime() ?? 0) - (a.RequestedDateTime?.getTime() ?? 0));
  // After a crash there may be two. What one of them has released stays released, whatever the other says.
  const latest = ours.find((each) => each.Status === 'Success') ?? ours[0];
  if (!latest) return sent;
  const output = latest.CommandPlugins?.map((plugin) => plugin.Output ?? '')
    .join('\n')
    .trim();
  return {
    status: releaseStatus(latest.Status, latest.StatusDetails),
    sentAt: latest.RequestedDateTime?.getTime() ?? sent?.sentAt ?? 0,
    detail: `${latest.StatusDetails}${output ? `: ${lastLine(output)}` : ''}`,
  };
}

/** Details of a command that has not run. */
const UNDELIVERED = new Set(['DeliveryTimedOut', 'Undeliverable', 'Terminated', 'AccessDenied', 'InvalidPlatform']);

/** @see docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html; what is not known has failed */
function releaseStatus(status: string | undefined, details = ''): ReleaseState['status'] {
  if (UNDELIVERED.has(details.replaceAll(' ', ''))) return 'undelivered';
  switch (status) {
    case 'Pending':
    case 'Delayed':
      return 'waiting';
    case 'InProgress':
      return 'running';
    case 'Success':
      return 'succeeded';
    default:
      return 'failed';
  }
}

/** Our scripts' last word; the agent appends a line of its own. */
function lastLine(text: string): string {
  return text.split('\n').findLast((line) => !/^failed to run commands:/.test(line)) ?? '';
}
