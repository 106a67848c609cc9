import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import type { Construct } from 'constructs';
import { callAws, giveUp, pause } from './call-aws.ts';
import { jsonata } from './jsonata.ts';

export interface RunExecutionProps {
  /** What the other workflow is, in one word; its output is in the variable of this name. */
  readonly what: string;
  readonly stateMachine: sfn.IStateMachine;
  /** JSONata expressions. */
  readonly name: string;
  readonly input: string;
  readonly next: sfn.State;
  /** How a failure of it is called. */
  readonly error: string;
  readonly failed: sfn.State;
  /** Between two looks, in seconds; a look is nine events of the 25,000 that a history may have (Step Functions quotas). */
  readonly pollSeconds: number;
}

/**
 * Starts another workflow and looks until it has ended, which its own timeout sees to. The optimized integration would stop
 * it together with this one; what is half-way between two hosts must not be stopped because somebody does not want to wait.
 */
export function runExecution(scope: Construct, id: string, props: RunExecutionProps): sfn.State {
  const { what, failed } = props;
  const start = callAws(scope, id, ['sfn', 'startExecution'], {
    parameters: {
      StateMachineArn: props.stateMachine.stateMachineArn,
      Name: jsonata(props.name),
      Input: jsonata(props.input),
    },
    assign: { [`${what}Arn`]: jsonata('$states.result.ExecutionArn') },
    failed,
  });
  const wait = pause(scope, `Wait for the ${what}`, props.pollSeconds);
  const look = callAws(scope, `Look at the ${what}`, ['sfn', 'describeExecution'], {
    parameters: { ExecutionArn: jsonata(`$${what}Arn`) },
    assign: {
      [`${what}Status`]: jsonata('$states.result.Status'),
      [`${what}Cause`]: jsonata("$exists($states.result.Cause) ? $states.result.Cause : 'its history says why'"),
      [what]: jsonata('$exists($states.result.Output) ? $parse($states.result.Output) : {}'),
    },
    failed,
  });
  start.next(wait);
  wait.next(look);
  look.next(
    sfn.Choice.jsonata(scope, `Is the ${what} over?`)
      .when(sfn.Condition.jsonata(jsonata(`$${what}Status = 'RUNNING'`)), wait)
      .when(sfn.Condition.jsonata(jsonata(`$${what}Status = 'SUCCEEDED'`)), props.next)
      .otherwise(giveUp(scope, `The ${what} failed`, { Error: props.error, Cause: jsonata(`$${what}Cause`) }, failed)),
  );
  return start;
}
