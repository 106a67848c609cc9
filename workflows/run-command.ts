import { Duration } from 'aws-cdk-lib';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import type { Construct } from 'constructs';
import { jsonata } from './jsonata.ts';

export interface RunCommandProps {
  /** The beginning of its variables' names; default: the name of the state. */
  readonly name?: string;
  readonly documentName: string;
  /** JSONata expressions. */
  readonly hostId: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly comment: string;
  /** How long the script may run; the document's own limit. */
  readonly executionSeconds: number;
  /** How long its end is waited for; default: as long as it may take to be delivered and to run. */
  readonly patienceSeconds?: number;
  /**
   * Where to go. Both see the variable `<name>Command`, e.g. `$verifyCommand`: `{ status, exitCode, detail, stdout }`, with the
   * status of Systems Manager, `NotSent` when it did not take the command, or `NoAnswer` when nothing was heard of it in
   * time; the exit code is -1 where there is none.
   */
  readonly onSuccess: sfn.IChainable;
  readonly onFailure: sfn.IChainable;
}

/** Statuses of a command whose host has not answered. */
export const UNANSWERED = ['Pending', 'Delayed', 'InProgress', 'TimedOut', 'NoAnswer'];

/** The shortest delivery timeout that SendCommand accepts (API reference, TimeoutSeconds). */
const DELIVERY_SECONDS = 30;
const POLL_SECONDS = 2;
/** A look with its wait and its state transitions. */
const LOOK_SECONDS = 2.3;

/**
 * Runs one of commands/ on a host and waits for its end: send, look every two seconds, and give up when Systems Manager
 * should long have said how it went. Whatever is not Success is failure.
 */
export function runCommand(scope: Construct, state: string, props: RunCommandProps): sfn.IChainable & sfn.State {
  // A variable of an inner scope must not bear the name of one in an outer scope, so each command has its own.
  const { name = state } = props;
  const [id, host, count, command] = ['Id', 'Host', 'Looks', 'Command'].map(
    (each) => `${name.toLowerCase()}${each}`,
  ) as [string, string, string, string];
  const { patienceSeconds = DELIVERY_SECONDS + props.executionSeconds + 15 } = props;
  const most = Math.ceil(patienceSeconds / LOOK_SECONDS);

  const send = tasks.CallAwsService.jsonata(scope, state, {
    service: 'ssm',
    action: 'sendCommand',
    parameters: {
      DocumentName: props.documentName,
      InstanceIds: [jsonata(props.hostId)],
      Parameters: Object.fromEntries(Object.entries(props.parameters).map(([key, value]) => [key, [jsonata(value)]])),
      TimeoutSeconds: DELIVERY_SECONDS,
      Comment: jsonata(props.comment),
    },
    iamResources: ['*'],
    taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    assign: { [id]: jsonata('$states.result.Command.CommandId'), [host]: jsonata(props.hostId), [count]: 0 },
  });
  const wait = sfn.Wait.jsonata(scope, `${state}: wait`, {
    time: sfn.WaitTime.duration(Duration.seconds(POLL_SECONDS)),
  });
  const look = tasks.CallAwsService.jsonata(scope, `${state}: look`, {
    service: 'ssm',
    action: 'getCommandInvocation',
    parameters: { CommandId: jsonata(`$${id}`), InstanceId: jsonata(`$${host}`) },
    iamResources: ['*'],
    taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    assign: {
      [count]: jsonata(`$${count} + 1`),
      [command]: {
        status: jsonata('$states.result.Status'),
        exitCode: jsonata('$exists($states.result.ResponseCode) ? $states.result.ResponseCode : -1'),
        detail: jsonata("$states.result.StatusDetails & ': ' & $trim($states.result.StandardErrorContent)"),
        stdout: jsonata('$states.result.StandardOutputContent'),
      },
    },
  });
  const notSent = {
    status: 'NotSent',
    exitCode: -1,
    detail: jsonata("$states.errorOutput.Error & ': ' & $states.errorOutput.Cause"),
    stdout: '',
  };
  send.addCatch(props.onFailure, { errors: ['States.ALL'], assign: { [command]: notSent } });
  // Right after SendCommand the invocation may not exist yet (API reference), and any other refusal may be passing.
  look.addCatch(
    sfn.Choice.jsonata(scope, `${state}: not yet?`)
      .when(sfn.Condition.jsonata(jsonata(`$${count} < ${most}`)), wait)
      .otherwise(props.onFailure),
    {
      errors: ['States.ALL'],
      assign: { [count]: jsonata(`$${count} + 1`), [command]: { ...notSent, status: 'NoAnswer' } },
    },
  );
  send.next(wait);
  wait.next(look);
  const status = (statuses: string[], limit: number) =>
    sfn.Condition.jsonata(
      jsonata(`$${command}.status in ${JSON.stringify(statuses).replaceAll('"', "'")} and $${count} < ${limit}`),
    );
  look.next(
    sfn.Choice.jsonata(scope, `${state}: done?`)
      .when(sfn.Condition.jsonata(jsonata(`$${command}.status = 'Success'`)), props.onSuccess)
      // What was not delivered in time never will be.
      .when(status(['Pending', 'Delayed'], Math.min(most, Math.ceil((DELIVERY_SECONDS + 5) / LOOK_SECONDS))), wait)
      .when(status(['InProgress'], most), wait)
      .otherwise(props.onFailure),
  );
  return send;
}
