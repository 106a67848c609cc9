import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import type { Construct } from 'constructs';
import { callAws, giveUp, pause } from './call-aws.ts';
import { jsonata } from './jsonata.ts';

/** The first snapshot of 100 GB takes 50 minutes (pingcap/docs-tidb-operator); looked at once a minute, for six hours. */
const MOST_LOOKS = 360;

/**
 * Waits until the snapshot `$snapshotId` is complete. The variable `$looks` has to be 0 at the beginning.
 *
 * @param consequence how things stand when it does not become complete, a JSONata expression
 */
export function awaitSnapshot(
  scope: Construct,
  { consequence, next, failed }: { readonly consequence: string; readonly next: sfn.State; readonly failed: sfn.State },
): sfn.State {
  const wait = pause(scope, 'Wait for the snapshot', 60);
  const look = callAws(scope, 'Look at the snapshot', ['ec2', 'describeSnapshots'], {
    parameters: { SnapshotIds: [jsonata('$snapshotId')] },
    assign: { looks: jsonata('$looks + 1'), snapshotState: jsonata('$states.result.Snapshots[0].State') },
    failed,
  });
  wait.next(look);
  look.next(
    sfn.Choice.jsonata(scope, 'Is the snapshot complete?')
      .when(sfn.Condition.jsonata(jsonata("$snapshotState = 'completed'")), next)
      .when(sfn.Condition.jsonata(jsonata(`$snapshotState = 'pending' and $looks < ${MOST_LOOKS}`)), wait)
      .otherwise(
        giveUp(
          scope,
          'No snapshot',
          {
            Error: 'NoSnapshot',
            Cause: jsonata(`'the snapshot ' & $snapshotId & ' is ' & $snapshotState & '; ' & ${consequence}`),
          },
          failed,
        ),
      ),
  );
  return look;
}
