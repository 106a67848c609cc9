import type * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import { jsonata } from './jsonata.ts';

/**
 * A JSONata expression for the cause of an error, cut to what a mail and a failed execution can show. Of a function's error,
 * which is JSON, it is the sentence; a timeout has no cause.
 *
 * @param otherwise what to say when there is none, a JSONata expression
 */
export function causeOf(error: string, otherwise: string): string {
  const text = `$contains(${error}.Cause, '"errorMessage"') ? $parse(${error}.Cause).errorMessage : ${error}.Cause`;
  return `$exists(${error}.Cause) ? $substring(${text}, 0, 1000) : ${otherwise}`;
}

/** Whatever a state fails with leads to `failed`, which finds it in the variable `$failure`: `{ Error, Cause }`. */
export function catchAll<T extends { addCatch(handler: sfn.IChainable, props: sfn.CatchProps): unknown }>(
  state: T,
  failed: sfn.IChainable,
): T {
  state.addCatch(failed, {
    errors: ['States.ALL'],
    assign: {
      failure: {
        Error: jsonata('$states.errorOutput.Error'),
        Cause: jsonata(causeOf('$states.errorOutput', "'it took too long'")),
      },
    },
  });
  return state;
}
