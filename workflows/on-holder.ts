import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import type { Construct } from 'constructs';
import { callAws, giveUp, pause } from './call-aws.ts';
import { jsonata } from './jsonata.ts';
import type { CommandDocument } from './relocate.ts';
import { runCommand, UNANSWERED } from './run-command.ts';

export interface OnHolderProps {
  /** The beginning of the command's variables: `$<name>Command` is `{ status, detail, stdout }`. */
  readonly name: string;
  readonly document: CommandDocument;
  /** JSONata expressions. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly executionSeconds: number;
  /** Exit codes that say no more than that this was the wrong host or moment. */
  readonly passingExitCodes?: readonly number[];
  /** How things stand when it cannot be done, a JSONata expression. */
  readonly consequence: string;
  readonly next: sfn.State;
  readonly failed: sfn.State;
}

const quoted = (words: readonly string[]) => JSON.stringify(words).replaceAll('"', "'");

/** The host may change meanwhile; looked for every fifteen seconds, for ten minutes. */
const MOST_TRIES = 40;
/**
 * Runs that may end without an answer. Each has taken its whole time, and burdens the database: a command that is too slow
 * is so the next time too, while a host that was just taken does not answer once.
 */
const MOST_UNANSWERED = 2;

/**
 * Runs a command on the host that holds the data volume, whichever that is by then, and leaves its id in `$holder`. The
 * variable `$tries` has to be 0 at the beginning, and is 0 afterwards.
 */
export function onHolder(scope: Construct, id: string, props: OnHolderProps): sfn.State {
  const { name, failed, passingExitCodes = [] } = props;
  const find = callAws(scope, `${id}: find the host`, ['ec2', 'describeVolumes'], {
    parameters: { VolumeIds: [jsonata('$database.volumeId')] },
    assign: {
      tries: jsonata('$tries + 1'),
      holder: jsonata(
        "$exists($states.result.Volumes[0].Attachments[0].InstanceId) ? $states.result.Volumes[0].Attachments[0].InstanceId : ''",
      ),
    },
    failed,
  });
  const done = sfn.Pass.jsonata(scope, `${id}: done`, { assign: { tries: 0 } });
  done.next(props.next);
  const wait = pause(scope, `${id}: wait for the host`, 15);
  wait.next(find);
  const command = `$${name.toLowerCase()}Command`;
  // What has run and failed is not tried again: it would fail again, and perhaps hinder somebody each time.
  const passing = `$exists(${command}) ? (${command}.status in ${quoted(['NotSent', ...UNANSWERED])} or ${command}.exitCode in [${passingExitCodes.join(', ')}]) : true`;
  const again = sfn.Choice.jsonata(scope, `${id}: try again?`)
    .when(sfn.Condition.jsonata(jsonata(`$tries < ${MOST_TRIES} and ($holder = '' or (${passing}))`)), wait)
    .otherwise(
      giveUp(
        scope,
        `${id}: it does not succeed`,
        {
          Error: 'CommandFailed',
          Cause: jsonata(
            `($exists(${command}) ? $holder & ': ' & ${command}.status & ': ' & ${command}.detail : 'no host holds the volume') & '; ' & ${props.consequence}`,
          ),
        },
        failed,
      ),
    );
  const count = sfn.Pass.jsonata(scope, `${id}: count what was not answered`, {
    assign: {
      tries: jsonata(
        `${command}.status in ${quoted(UNANSWERED)} ? $tries + ${MOST_TRIES / MOST_UNANSWERED - 1} : $tries`,
      ),
    },
  });
  count.next(again);
  const run = runCommand(scope, id, {
    name,
    documentName: props.document.documentName,
    hostId: '$holder',
    parameters: props.parameters,
    comment: '$execution',
    executionSeconds: props.executionSeconds,
    onSuccess: done,
    onFailure: count,
  });
  find.next(
    sfn.Choice.jsonata(scope, `${id}: is there a host?`)
      .when(sfn.Condition.jsonata(jsonata("$holder != ''")), run)
      .otherwise(again),
  );
  return find;
}
