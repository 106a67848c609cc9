import { Duration } from 'aws-cdk-lib';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import type { Construct } from 'constructs';
import { catchAll } from './failures.ts';

export interface CallAwsProps {
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly assign?: Readonly<Record<string, unknown>>;
  /** Where to go when AWS refuses it, or does not answer. */
  readonly failed: sfn.IChainable;
}

/**
 * A call that can be repeated. Of Amazon EC2's errors Step Functions knows one name only, so every refusal is tried again
 * for a quarter of a minute before it ends the workflow, in AWS's words.
 *
 * @param service and action as in the SDK, e.g. `ec2`, `createSnapshot`
 */
export function callAws(
  scope: Construct,
  id: string,
  [service, action]: readonly [service: string, action: string],
  { parameters, assign, failed }: CallAwsProps,
): tasks.CallAwsService {
  const task = tasks.CallAwsService.jsonata(scope, id, {
    service,
    action,
    parameters: { ...parameters },
    iamResources: ['*'],
    taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    ...(assign && { assign: { ...assign } }),
  });
  task.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 4, backoffRate: 2 });
  return catchAll(task, failed);
}

/** A pause. */
export function pause(scope: Construct, id: string, seconds: number): sfn.Wait {
  return sfn.Wait.jsonata(scope, id, { time: sfn.WaitTime.duration(Duration.seconds(seconds)) });
}

/** States a failure, in the variable `$failure`, and goes where failures lead. */
export function giveUp(
  scope: Construct,
  id: string,
  failure: { readonly Error: string; readonly Cause: string },
  failed: sfn.State,
): sfn.State {
  const state = sfn.Pass.jsonata(scope, id, { assign: { failure } });
  state.next(failed);
  return state;
}
