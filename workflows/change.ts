import { Duration, Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import type * as sns from 'aws-cdk-lib/aws-sns';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import { Construct } from 'constructs';
import {
  DATABASE_TAG,
  EXECUTION_TAG,
  EXPIRES_AT_TAG,
  MODIFIED_AT_TAG,
  PRE_CHANGE_ROLE,
  ROLE_TAG,
} from '../functions/core/tags.ts';
import { awaitSnapshot } from './await-snapshot.ts';
import { callAws, giveUp, pause } from './call-aws.ts';
import { BY_TAG, Capabilities, READS_ONLY } from './capabilities.ts';
import { catchAll, causeOf } from './failures.ts';
import { type Databases, findDatabase } from './find-database.ts';
import { jsonata } from './jsonata.ts';
import { onHolder } from './on-holder.ts';
import { grant, type Permission } from './permission.ts';
import type { CommandDocument } from './relocate.ts';
import { runExecution } from './run-execution.ts';
import { tell } from './tell.ts';

export interface ChangeProps {
  /** What people start: `scale-up` takes another instance type or a larger volume, `patch` a newer AMI or image. */
  readonly runbook: 'scale-up' | 'patch';
  readonly databases: Databases;
  /** functions/preflight */
  readonly preflight: lambda.IFunction;
  readonly relocate: sfn.IStateMachine;
  readonly commands: Readonly<Record<'grow' | 'updateExtension', CommandDocument>>;
  readonly topic: sns.ITopic;
}

/** How long grow.sh and update-extension.sh may run. */
export const GROW_SECONDS = 90;
export const UPDATE_EXTENSION_SECONDS = 600;

/** A snapshot that was taken before a change; a quarter, because some mistakes are found late. */
const KEEP_DAYS = 90;
/** Size is usable after seconds (EBS user guide, monitoring-volume-modifications); looked at every three, for an hour. */
const MOST_LOOKS_AT_MODIFICATION = 1200;
/** Describe calls are eventually consistent; half a minute is more than was ever seen. */
const MOST_LOOKS_BEFORE_IT_SHOWS = 10;
/**
 * A change that a person asks for: refused with reasons before anything is touched, or done.
 *
 *   Preflight ─► pre-change snapshot ─► grow the volume, then its file system ─► planned relocation ─► update the extension
 *
 * The relocation is one of its own (workflows/relocate.ts): whoever stops the runbook does not stop a move half-way. What
 * an execution that dies leaves behind is in use, or carries the date on which reconcile removes it.
 */
export class Change extends Construct {
  readonly stateMachine: sfn.StateMachine;
  readonly #props: ChangeProps;
  #failure: sfn.State | undefined;

  constructor(scope: Construct, id: string, props: ChangeProps) {
    super(scope, id);
    this.#props = props;
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('states.amazonaws.com') });
    const policies = this.#policies(role);
    this.stateMachine = new sfn.StateMachine(this, 'StateMachine', {
      stateMachineName: `${Stack.of(this).stackName.toLowerCase()}-${props.runbook}`,
      queryLanguage: sfn.QueryLanguage.JSONATA,
      definitionBody: sfn.DefinitionBody.fromChainable(this.#definition()),
      role: role.withoutPolicyUpdates(),
      timeout: Duration.hours(24),
    });
    Validations.of(this.stateMachine).acknowledge(
      { id: 'AwsSolutions-SF1', reason: 'Step Functions keeps the history of a Standard execution for 90 days.' },
      { id: 'AwsSolutions-SF2', reason: 'The history says when each state was entered and left.' },
    );
    this.stateMachine.node.addDependency(...policies);
  }

  #definition(): sfn.IChainable {
    const { runbook, databases, preflight } = this.#props;
    const check = tasks.LambdaInvoke.jsonata(this, 'Preflight', {
      lambdaFunction: preflight,
      payload: sfn.TaskInput.fromObject({
        runbook,
        request: jsonata('$request'),
        database: jsonata('$database'),
        execution: {
          name: jsonata('$execution'),
          startedAt: jsonata('$states.context.Execution.StartTime'),
        },
      }),
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.duration(Duration.seconds(60)),
      assign: { plan: jsonata('$states.result.Payload') },
    });
    check.addRetry({ errors: ['Refused'], maxAttempts: 0 });
    check.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 3, backoffRate: 2 });
    // Whoever asked is looking: nobody else has to be told.
    const refused = sfn.Fail.jsonata(this, 'Refused', {
      error: jsonata('$failure.Error'),
      cause: jsonata('$failure.Cause'),
    });
    check.addCatch(refused, {
      errors: ['Refused'],
      // All reasons: a refusal is what somebody reads who is waiting for it.
      assign: { failure: { Error: 'Refused', Cause: jsonata('$parse($states.errorOutput.Cause).errorMessage') } },
    });
    catchAll(check, refused);
    check.next(this.#snapshot());
    return findDatabase(this, {
      databases,
      variables: { looks: 0, tries: 0, done: [], refusal: jsonata("''") },
      next: check,
      failed: refused,
    });
  }

  #snapshot(): sfn.State {
    const take = callAws(this, 'Take a snapshot', ['ec2', 'createSnapshot'], {
      failed: this.#failed(),
      parameters: {
        VolumeId: jsonata('$database.volumeId'),
        Description: jsonata("'Keeper: before ' & $plan.summary"),
        TagSpecifications: [
          {
            ResourceType: 'snapshot',
            Tags: [
              { Key: 'Name', Value: jsonata("'keeper ' & $database.name & ' before a change'") },
              { Key: DATABASE_TAG, Value: jsonata('$database.name') },
              { Key: ROLE_TAG, Value: PRE_CHANGE_ROLE },
              { Key: EXECUTION_TAG, Value: jsonata('$execution') },
              { Key: EXPIRES_AT_TAG, Value: jsonata(`$fromMillis($millis() + ${KEEP_DAYS} * 86400000)`) },
            ],
          },
        ],
      },
      assign: { snapshotId: jsonata('$states.result.SnapshotId') },
    });
    const move = this.#move();
    const grow = this.#props.runbook === 'scale-up' ? this.#grow(move) : undefined;
    if (!grow) {
      take.next(move);
      return take;
    }
    take.next(
      sfn.Choice.jsonata(this, 'A larger volume?')
        .when(sfn.Condition.jsonata(jsonata('$exists($plan.growToGiB)')), grow)
        .otherwise(move),
    );
    return take;
  }

  /** The volume grows under the running database, then the file system does. */
  #grow(next: sfn.State): sfn.IChainable {
    const modify = tasks.CallAwsService.jsonata(this, 'Modify the volume', {
      service: 'ec2',
      action: 'modifyVolume',
      parameters: { VolumeId: jsonata('$database.volumeId'), Size: jsonata('$plan.growToGiB') },
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    });
    const note = callAws(this, 'Note the modification', ['ec2', 'createTags'], {
      failed: this.#failed(),
      parameters: {
        Resources: [jsonata('$database.volumeId')],
        Tags: [{ Key: MODIFIED_AT_TAG, Value: jsonata('$plan.modifiedAt') }],
      },
    });
    const wait = pause(this, 'Wait for the volume', 3);
    const look = callAws(this, 'Look at the modification', ['ec2', 'describeVolumesModifications'], {
      failed: this.#failed(),
      // A filter: a volume that was never modified is an empty answer instead of an error.
      parameters: { Filters: [{ Name: 'volume-id', Values: [jsonata('$database.volumeId')] }] },
      assign: {
        looks: jsonata('$looks + 1'),
        modification: jsonata(
          "$merge([{ 'ModificationState': 'unknown', 'TargetSize': 0, 'StatusMessage': '' }, $states.result.VolumesModifications[0]])",
        ),
      },
    });
    const grown = this.#done("'the file system has ' & $plan.growToGiB & ' GiB'", 'Grown', next);
    const growFileSystem = onHolder(this, 'Grow the file system', {
      name: 'grow',
      document: this.#props.commands.grow,
      parameters: { volumeId: '$database.volumeId', sizeGiB: '$string($plan.growToGiB)' },
      executionSeconds: GROW_SECONDS,
      // 30: the volume is not on that host (any longer)
      passingExitCodes: [30],
      consequence: `'the volume has ' & $plan.growToGiB & ' GiB, its file system has not grown yet: the next takeover does that, or run the document ${this.#props.commands.grow.documentName} on the host'`,
      next: grown,
      failed: this.#failed(),
    });
    const ours = '$modification.TargetSize = $plan.growToGiB';
    // It cannot be asked for twice. Whether it was refused, or only its answer was lost, the modification itself tells.
    modify.addCatch(wait, {
      errors: ['States.ALL'],
      assign: { refusal: jsonata(causeOf('$states.errorOutput', "'it took too long'")) },
    });
    modify.next(note);
    note.next(wait);
    wait.next(look);
    const larger = this.#done("'the volume has ' & $plan.growToGiB & ' GiB'", 'The volume is larger', growFileSystem);
    look.next(
      sfn.Choice.jsonata(this, 'Larger?')
        .when(
          sfn.Condition.jsonata(jsonata(`${ours} and $modification.ModificationState in ['optimizing', 'completed']`)),
          larger,
        )
        // EC2 may tell of an earlier modification for a moment.
        .when(
          sfn.Condition.jsonata(jsonata(`$not(${ours}) and $refusal = '' and $looks < ${MOST_LOOKS_BEFORE_IT_SHOWS}`)),
          wait,
        )
        .when(
          sfn.Condition.jsonata(
            jsonata(
              `${ours} and $modification.ModificationState = 'modifying' and $looks < ${MOST_LOOKS_AT_MODIFICATION}`,
            ),
          ),
          wait,
        )
        .otherwise(
          this.#giveUp('The volume did not grow', {
            Error: 'NotGrown',
            Cause: jsonata(
              "'the modification of ' & $database.volumeId & ' to ' & $plan.growToGiB & ' GiB did not succeed: ' & ($refusal = '' ? $modification.ModificationState & ': ' & $modification.StatusMessage : $refusal) & '; start the same again'",
            ),
          }),
        ),
    );
    // What has the size already, and whose file system has not, begins there.
    return sfn.Choice.jsonata(this, 'Is the volume to be modified?')
      .when(sfn.Condition.jsonata(jsonata('$exists($plan.modifiedAt)')), modify)
      .otherwise(growFileSystem);
  }

  /** The planned relocation, where one is needed. */
  #move(): sfn.State {
    const finish = this.#finish();
    const after = this.#props.runbook === 'patch' ? this.#updateExtension(finish) : finish;
    const moved = this.#done(
      "'the database is on ' & $relocation.to & ' (' & $relocation.instanceType & ', ' & $relocation.lifecycle & ')'",
      'Moved',
      after,
    );
    const start = runExecution(this, 'Start the relocation', {
      what: 'relocation',
      stateMachine: this.#props.relocate,
      // One a minute at most. @see functions/core/names.ts
      name: `$database.name & '-${this.#props.runbook}-' & $replace($substring($states.context.Execution.StartTime, 0, 16), ':', '')`,
      input:
        "$string({ 'database': $database.name, 'reason': $plan.summary, 'planned': true, 'host': $plan.host, 'record': $plan.record })",
      error: 'NotMoved',
      pollSeconds: 15,
      next: moved,
      failed: this.#failed(),
    });
    const move = sfn.Choice.jsonata(this, 'Another host?')
      .when(sfn.Condition.jsonata(jsonata('$exists($plan.host)')), start)
      .otherwise(after);
    if (this.#props.runbook === 'scale-up') return move;
    return sfn.Choice.jsonata(this, 'Wait for the snapshot?')
      .when(sfn.Condition.jsonata(jsonata('$plan.waitForSnapshot')), this.#snapshotFirst(move))
      .otherwise(move);
  }

  /** What another image does to the data cannot be undone by going back: the snapshot has to be there before. */
  #snapshotFirst(next: sfn.State): sfn.State {
    return awaitSnapshot(this, {
      consequence: "'nothing has been changed: start the same again'",
      next,
      failed: this.#failed(),
    });
  }

  /** Adds to what the mail says that was done. @param what a JSONata expression */
  #done(what: string, id: string, next: sfn.State): sfn.State {
    const state = sfn.Pass.jsonata(this, id, { assign: { done: jsonata(`[$append($done, ${what})]`) } });
    state.next(next);
    return state;
  }

  #updateExtension(next: sfn.State): sfn.State {
    const updated = this.#done("'timescaledb: ' & $trim($extensionCommand.stdout)", 'Updated', next);
    const update = onHolder(this, 'Update the extension', {
      name: 'extension',
      document: this.#props.commands.updateExtension,
      parameters: {},
      executionSeconds: UPDATE_EXTENSION_SECONDS,
      consequence:
        "'the database serves with the extension as it was; the snapshot ' & $snapshotId & ' is from before the change'",
      next: updated,
      failed: this.#failed(),
    });
    return sfn.Choice.jsonata(this, 'Update the extension?')
      .when(sfn.Condition.jsonata(jsonata('$plan.updateExtension')), update)
      .otherwise(next);
  }

  #finish(): sfn.State {
    const outputs = {
      database: jsonata('$database.name'),
      outcome: 'changed',
      what: jsonata('$plan.summary'),
      done: jsonata('$done'),
      snapshot: jsonata('$snapshotId'),
    };
    const summarise = sfn.Pass.jsonata(this, 'Summarise', { assign: { result: outputs } });
    summarise.next(
      tell(this, 'Publish', {
        topic: this.#props.topic,
        subject: "'Keeper: ' & $plan.summary",
        message: '$string($result, true)',
        next: sfn.Succeed.jsonata(this, 'Changed', { outputs: jsonata('$result') }),
      }),
    );
    return summarise;
  }

  #failed(): sfn.State {
    this.#failure ??= tell(this, 'Tell people that it failed', {
      topic: this.#props.topic,
      subject: `'Keeper: the ${this.#props.runbook} of ' & $database.name & ' failed'`,
      message: `'The ${this.#props.runbook} ' & $execution & ' (' & $plan.summary & ') failed: ' & $failure.Error & ': ' & $failure.Cause & '\\n\\n' & ($count($done) = 0 ? 'Nothing was finished before that.' : 'Done before that: ' & $join($done, '; ') & '.')`,
      next: sfn.Fail.jsonata(this, 'Failed', { error: jsonata('$failure.Error'), cause: jsonata('$failure.Cause') }),
    });
    return this.#failure;
  }

  #giveUp(id: string, failure: { Error: string; Cause: string }): sfn.State {
    return giveUp(this, id, failure, this.#failed());
  }

  #policies(role: iam.IRole): iam.Policy[] {
    const { runbook, databases, preflight, relocate, commands, topic } = this.#props;
    const can = new Capabilities(Stack.of(this), Object.keys(databases));
    const tags = ['Name', DATABASE_TAG, ROLE_TAG, EXECUTION_TAG, EXPIRES_AT_TAG];
    const capabilities: Record<string, readonly Permission[]> = {
      preflight: [{ actions: ['lambda:InvokeFunction'], resources: [preflight.functionArn] }],
      'read-parameters': can.readParameters('volume-id'),
      'take-snapshots': can.takeSnapshots(tags),
      'read-volumes': can.readVolumes(),
      'run-commands': can.runCommands([(runbook === 'scale-up' ? commands.grow : commands.updateExtension).arn]),
      ...(runbook === 'scale-up'
        ? {
            'grow-volumes': [
              { actions: ['ec2:ModifyVolume'], resources: [can.arn('volume')], conditions: can.own, wildcards: BY_TAG },
              {
                actions: ['ec2:CreateTags'],
                resources: [can.arn('volume')],
                conditions: { ...can.own, 'ForAllValues:StringEquals': { 'aws:TagKeys': [MODIFIED_AT_TAG] } },
                wildcards: BY_TAG,
              },
              { actions: ['ec2:DescribeVolumesModifications'], resources: ['*'], wildcards: READS_ONLY },
            ],
          }
        : { 'read-snapshots': can.readSnapshots() }),
      relocate: can.runExecutions(relocate.stateMachineArn, 'relocate'),
      'tell-people': [{ actions: ['sns:Publish'], resources: [topic.topicArn] }],
    };
    return Object.entries(capabilities).map(([capability, permissions]) => grant(this, capability, role, permissions));
  }
}
