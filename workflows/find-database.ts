import { Duration } from 'aws-cdk-lib';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import type { Construct } from 'constructs';
import type { Database } from '../functions/shared/database.ts';
import { catchAll } from './failures.ts';
import { jsonata } from './jsonata.ts';

/** What a workflow knows of its databases when it is deployed; the volume is read when it starts. */
export type Databases = Readonly<Record<string, Omit<Database, 'name' | 'volumeId'>>>;

export interface FindDatabaseProps {
  readonly databases: Databases;
  /** More variables to begin with. */
  readonly variables: Readonly<Record<string, unknown>>;
  readonly next: sfn.State;
  /** Where to go when the volume's id cannot be read. */
  readonly failed: sfn.State;
}

/**
 * The beginning of a workflow: `$request`, its input, with the database's name, which may be left out where there is one
 * only; `$database`, what functions have to know of it; `$execution`, the workflow's own name.
 */
export function findDatabase(scope: Construct, { databases, variables, next, failed }: FindDatabaseProps): sfn.State {
  const [only, ...others] = Object.keys(databases);
  const assumed = only !== undefined && others.length === 0 ? { database: only } : {};
  const read = sfn.Pass.jsonata(scope, 'Read the configuration', {
    assign: {
      request: jsonata(`$merge([${JSON.stringify(assumed)}, $states.input])`),
      configured: databases,
      execution: jsonata('$states.context.Execution.Name'),
      ...variables,
    },
  });
  const unknown = sfn.Fail.jsonata(scope, 'Unknown database', {
    error: 'UnknownDatabase',
    cause: jsonata("'there is no database of this name; configured are: ' & $join($keys($configured), ', ')"),
  });
  const find = tasks.CallAwsService.jsonata(scope, 'Find the data volume', {
    service: 'ssm',
    action: 'getParameter',
    parameters: { Name: jsonata("'/keeper/' & $request.database & '/volume-id'") },
    iamResources: ['*'],
    taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    assign: {
      database: jsonata(
        "$merge([$lookup($configured, $request.database), { 'name': $request.database, 'volumeId': $states.result.Parameter.Value }])",
      ),
    },
  });
  find.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 5, backoffRate: 2 });
  catchAll(find, failed);
  find.next(next);
  read.next(
    sfn.Choice.jsonata(scope, 'Known database?')
      .when(sfn.Condition.jsonata(jsonata('$exists($lookup($configured, $request.database))')), find)
      .otherwise(unknown),
  );
  return read;
}
