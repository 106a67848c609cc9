import { ArnFormat, Duration, Stack, Validations } from 'aws-cdk-lib';
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
import { catchAll, causeOf } from './failures.ts';
import { type Databases, findDatabase } from './find-database.ts';
import { jsonata } from './jsonata.ts';
import { grant, type Permission } from './permission.ts';
import type { CommandDocument } from './relocate.ts';
import { runCommand } from './run-command.ts';
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
/** The first snapshot of 100 GB takes 50 minutes (pingcap/docs-tidb-operator); looked at every 15 s, for six hours. */
const MOST_LOOKS_AT_SNAPSHOT = 1440;
/** The host may change meanwhile; tried every fifteen seconds, for ten minutes. */
const MOST_TRIES_ON_HOST = 40;

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
    catchAll(check, refused);
    check.next(this.#snapshot());
    return findDatabase(this, {
      databases,
      variables: { looks: 0, tries: 0, done: [], relocation: {}, refusal: jsonata("''") },
      next: check,
      failed: refused,
    });
  }

  #snapshot(): sfn.State {
    const take = this.#call('Take a snapshot', 'ec2', 'createSnapshot', {
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
  #grow(next: sfn.State): sfn.State {
    const modify = tasks.CallAwsService.jsonata(this, 'Modify the volume', {
      service: 'ec2',
      action: 'modifyVolume',
      parameters: { VolumeId: jsonata('$database.volumeId'), Size: jsonata('$plan.growToGiB') },
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
    });
    const note = this.#call('Note the modification', 'ec2', 'createTags', {
      parameters: {
        Resources: [jsonata('$database.volumeId')],
        Tags: [{ Key: MODIFIED_AT_TAG, Value: jsonata('$plan.modifiedAt') }],
      },
    });
    const wait = this.#wait('Wait for the volume', 3);
    const look = this.#call('Look at the modification', 'ec2', 'describeVolumesModifications', {
      // A filter: a volume that was never modified is an empty answer instead of an error.
      parameters: { Filters: [{ Name: 'volume-id', Values: [jsonata('$database.volumeId')] }] },
      assign: {
        looks: jsonata('$looks + 1'),
        modification: jsonata(
          "$merge([{ 'ModificationState': 'unknown', 'TargetSize': 0, 'StatusMessage': 'EC2 knows of none' }, $states.result.VolumesModifications[0]])",
        ),
      },
    });
    const growFileSystem = this.#onHolder('Grow the file system', {
      command: 'grow',
      document: this.#props.commands.grow,
      parameters: { volumeId: '$database.volumeId', sizeGiB: '$string($plan.growToGiB)' },
      seconds: GROW_SECONDS,
      done: "'the volume and its file system have ' & $plan.growToGiB & ' GiB'",
      consequence:
        "'the volume has ' & $plan.growToGiB & ' GiB, its file system has not grown yet: the next takeover does that, or run the document " +
        this.#props.commands.grow.documentName +
        " on the host'",
      next,
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
    look.next(
      sfn.Choice.jsonata(this, 'Larger?')
        .when(
          sfn.Condition.jsonata(jsonata(`${ours} and $modification.ModificationState in ['optimizing', 'completed']`)),
          growFileSystem,
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
    return modify;
  }

  /** The planned relocation, where one is needed. */
  #move(): sfn.State {
    const finish = this.#finish();
    const after = this.#props.runbook === 'patch' ? this.#updateExtension(finish) : finish;
    const start = this.#call('Start the relocation', 'sfn', 'startExecution', {
      parameters: {
        StateMachineArn: this.#props.relocate.stateMachineArn,
        // One a minute at most. @see functions/core/names.ts, changeName
        Name: jsonata(
          `$database.name & '-${this.#props.runbook}-' & $replace($substring($states.context.Execution.StartTime, 0, 16), ':', '')`,
        ),
        Input: jsonata(
          "$string({ 'database': $database.name, 'reason': $plan.summary, 'planned': true, 'host': $plan.host, 'record': $plan.record })",
        ),
      },
      assign: { relocationArn: jsonata('$states.result.ExecutionArn') },
    });
    const wait = this.#wait('Wait for the relocation', 5);
    const look = this.#call('Look at the relocation', 'sfn', 'describeExecution', {
      parameters: { ExecutionArn: jsonata('$relocationArn') },
      assign: {
        relocation: {
          status: jsonata('$states.result.Status'),
          cause: jsonata("$exists($states.result.Cause) ? $states.result.Cause : 'its history says why'"),
          output: jsonata('$exists($states.result.Output) ? $parse($states.result.Output) : {}'),
        },
      },
    });
    const failed = this.#giveUp('The relocation failed', {
      Error: 'NotMoved',
      Cause: jsonata('$relocation.cause'),
    });
    const moved = sfn.Pass.jsonata(this, 'Moved', {
      assign: {
        done: jsonata(
          "[$append($done, 'the database is on ' & $relocation.output.to & ' (' & $relocation.output.instanceType & ', ' & $relocation.output.lifecycle & ')')]",
        ),
      },
    });
    start.next(wait);
    wait.next(look);
    look.next(
      sfn.Choice.jsonata(this, 'Is it over?')
        .when(sfn.Condition.jsonata(jsonata("$relocation.status = 'RUNNING'")), wait)
        .when(sfn.Condition.jsonata(jsonata("$relocation.status = 'SUCCEEDED'")), moved)
        .otherwise(failed),
    );
    moved.next(after);
    const move = sfn.Choice.jsonata(this, 'Another host?')
      .when(sfn.Condition.jsonata(jsonata('$exists($plan.host)')), start)
      .otherwise(after);
    if (this.#props.runbook === 'scale-up') return move;
    return sfn.Choice.jsonata(this, 'Wait for the snapshot?')
      .when(sfn.Condition.jsonata(jsonata('$plan.waitForSnapshot')), this.#awaitSnapshot(move))
      .otherwise(move);
  }

  /** What another image does to the data cannot be undone by going back: the snapshot has to be there before. */
  #awaitSnapshot(next: sfn.State): sfn.State {
    const wait = this.#wait('Wait for the snapshot', 15);
    const look = this.#call('Look at the snapshot', 'ec2', 'describeSnapshots', {
      parameters: { SnapshotIds: [jsonata('$snapshotId')] },
      assign: {
        looks: jsonata('$looks + 1'),
        snapshot: { state: jsonata('$states.result.Snapshots[0].State') },
      },
    });
    look.next(
      sfn.Choice.jsonata(this, 'Is the snapshot complete?')
        .when(sfn.Condition.jsonata(jsonata("$snapshot.state = 'completed'")), next)
        .when(
          sfn.Condition.jsonata(jsonata(`$snapshot.state = 'pending' and $looks < ${MOST_LOOKS_AT_SNAPSHOT}`)),
          wait,
        )
        .otherwise(
          this.#giveUp('No snapshot', {
            Error: 'NoSnapshot',
            Cause: jsonata(
              "'the snapshot ' & $snapshotId & ' is ' & $snapshot.state & '; nothing has been changed: start the same again'",
            ),
          }),
        ),
    );
    wait.next(look);
    return look;
  }

  #updateExtension(next: sfn.State): sfn.State {
    const update = this.#onHolder('Update the extension', {
      command: 'updateExtension',
      document: this.#props.commands.updateExtension,
      parameters: {},
      seconds: UPDATE_EXTENSION_SECONDS,
      done: "'timescaledb: ' & $trim($updateextensionCommand.stdout)",
      consequence:
        "'the database serves with the extension as it was; the snapshot ' & $snapshotId & ' is from before the change'",
      next,
    });
    return sfn.Choice.jsonata(this, 'Update the extension?')
      .when(sfn.Condition.jsonata(jsonata('$plan.updateExtension')), update)
      .otherwise(next);
  }

  /** Runs a command on the host that holds the volume, whichever that is by then. */
  #onHolder(
    id: string,
    props: {
      readonly command: string;
      readonly document: CommandDocument;
      /** JSONata expressions. */
      readonly parameters: Readonly<Record<string, string>>;
      readonly seconds: number;
      /** What there is to say when it is done, and how things stand when it cannot be done. JSONata expressions. */
      readonly done: string;
      readonly consequence: string;
      readonly next: sfn.State;
    },
  ): sfn.State {
    const find = this.#call(`${id}: find the host`, 'ec2', 'describeVolumes', {
      parameters: { VolumeIds: [jsonata('$database.volumeId')] },
      assign: {
        tries: jsonata('$tries + 1'),
        holder: jsonata(
          "$exists($states.result.Volumes[0].Attachments[0].InstanceId) ? $states.result.Volumes[0].Attachments[0].InstanceId : ''",
        ),
      },
    });
    const done = sfn.Pass.jsonata(this, `${id}: done`, {
      assign: { done: jsonata(`[$append($done, ${props.done})]`), tries: 0 },
    });
    done.next(props.next);
    const wait = this.#wait(`${id}: wait for the host`, 15);
    wait.next(find);
    const variable = `$${props.command.toLowerCase()}Command`;
    const again = sfn.Choice.jsonata(this, `${id}: try again?`)
      .when(sfn.Condition.jsonata(jsonata(`$tries < ${MOST_TRIES_ON_HOST}`)), wait)
      .otherwise(
        this.#giveUp(`${id}: it does not succeed`, {
          Error: 'CommandFailed',
          Cause: jsonata(
            `($exists(${variable}) ? $holder & ': ' & ${variable}.status & ': ' & ${variable}.detail : 'no host holds the volume') & '; ' & ${props.consequence}`,
          ),
        }),
      );
    const run = runCommand(this, id, {
      name: props.command,
      documentName: props.document.documentName,
      hostId: '$holder',
      parameters: props.parameters,
      comment: '$execution',
      executionSeconds: props.seconds,
      onSuccess: done,
      onFailure: again,
    });
    find.next(
      sfn.Choice.jsonata(this, `${id}: is there a host?`)
        .when(sfn.Condition.jsonata(jsonata("$holder != ''")), run)
        .otherwise(again),
    );
    return find;
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
        subject: "'Keeper: ' & $database.name & ': ' & $plan.summary",
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
      message: `'The ${this.#props.runbook} ' & $execution & ' (' & $plan.summary & ') failed: ' & $failure.Error & ': ' & $failure.Cause & '\\n\\n' & ($count($done) = 0 ? 'Nothing has been changed for good.' : 'Done before that: ' & $join($done, '; ') & '.')`,
      next: sfn.Fail.jsonata(this, 'Failed', { error: jsonata('$failure.Error'), cause: jsonata('$failure.Cause') }),
    });
    return this.#failure;
  }

  #giveUp(id: string, failure: { Error: string; Cause: string }): sfn.State {
    const state = sfn.Pass.jsonata(this, id, { assign: { failure } });
    state.next(this.#failed());
    return state;
  }

  #wait(id: string, seconds: number): sfn.Wait {
    return sfn.Wait.jsonata(this, id, { time: sfn.WaitTime.duration(Duration.seconds(seconds)) });
  }

  /** A call that can be repeated, of which AWS's own refusals end the runbook with AWS's words. */
  #call(
    id: string,
    service: string,
    action: string,
    props: { parameters: Record<string, unknown>; assign?: Record<string, unknown> },
  ): tasks.CallAwsService {
    const task = tasks.CallAwsService.jsonata(this, id, {
      service,
      action,
      parameters: props.parameters,
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
      ...(props.assign && { assign: props.assign }),
    });
    task.addRetry({
      errors: ['States.ALL'],
      interval: Duration.seconds(1),
      maxAttempts: 4,
      backoffRate: 2,
    });
    return catchAll(task, this.#failed());
  }

  #policies(role: iam.IRole): iam.Policy[] {
    const { runbook, databases, preflight, relocate, commands, topic } = this.#props;
    const stack = Stack.of(this);
    const names = Object.keys(databases);
    const arn = (resource: string) => stack.formatArn({ service: 'ec2', resource, resourceName: '*' });
    const snapshots = stack.formatArn({ service: 'ec2', resource: 'snapshot', resourceName: '*', account: '' });
    const own = { StringEquals: { [`aws:ResourceTag/${DATABASE_TAG}`]: names } };
    const born = { StringEquals: { [`aws:RequestTag/${DATABASE_TAG}`]: names } };
    const command = runbook === 'scale-up' ? commands.grow : commands.updateExtension;
    const READS = 'IAM cannot limit this action to resources; it only reads.';
    const BY_TAG = "The condition limits this to what carries a database's tag.";
    const capabilities: Record<string, readonly Permission[]> = {
      preflight: [{ actions: ['lambda:InvokeFunction'], resources: [preflight.functionArn] }],
      'read-parameters': [
        {
          actions: ['ssm:GetParameter'],
          resources: names.map((name) =>
            stack.formatArn({ service: 'ssm', resource: 'parameter', resourceName: `keeper/${name}/volume-id` }),
          ),
        },
      ],
      'take-snapshots': [
        { actions: ['ec2:CreateSnapshot'], resources: [arn('volume')], conditions: own, wildcards: BY_TAG },
        { actions: ['ec2:CreateSnapshot'], resources: [snapshots], conditions: born, wildcards: BY_TAG },
        {
          actions: ['ec2:CreateTags'],
          resources: [snapshots],
          conditions: {
            StringEquals: { 'ec2:CreateAction': ['CreateSnapshot'], ...born.StringEquals },
            'ForAllValues:StringEquals': {
              'aws:TagKeys': ['Name', DATABASE_TAG, ROLE_TAG, EXECUTION_TAG, EXPIRES_AT_TAG],
            },
          },
          wildcards: BY_TAG,
        },
      ],
      'read-volumes': [{ actions: ['ec2:DescribeVolumes'], resources: ['*'], wildcards: READS }],
      'run-commands': [
        { actions: ['ssm:SendCommand'], resources: [command.arn] },
        {
          actions: ['ssm:SendCommand'],
          resources: [arn('instance')],
          conditions: { StringEquals: { [`ssm:resourceTag/${DATABASE_TAG}`]: names } },
          wildcards: BY_TAG,
        },
        { actions: ['ssm:GetCommandInvocation'], resources: ['*'], wildcards: READS },
      ],
      ...(runbook === 'scale-up'
        ? {
            'grow-volumes': [
              { actions: ['ec2:ModifyVolume'], resources: [arn('volume')], conditions: own, wildcards: BY_TAG },
              {
                actions: ['ec2:CreateTags'],
                resources: [arn('volume')],
                conditions: { ...own, 'ForAllValues:StringEquals': { 'aws:TagKeys': [MODIFIED_AT_TAG] } },
                wildcards: BY_TAG,
              },
              { actions: ['ec2:DescribeVolumesModifications'], resources: ['*'], wildcards: READS },
            ],
          }
        : { 'read-snapshots': [{ actions: ['ec2:DescribeSnapshots'], resources: ['*'], wildcards: READS }] }),
      relocate: [
        { actions: ['states:StartExecution'], resources: [relocate.stateMachineArn] },
        {
          actions: ['states:DescribeExecution'],
          resources: [
            stack.formatArn({
              service: 'states',
              resource: 'execution',
              resourceName: `${stack.stackName.toLowerCase()}-relocate:*`,
              arnFormat: ArnFormat.COLON_RESOURCE_NAME,
            }),
          ],
          wildcards: 'All executions of this one state machine.',
        },
      ],
      'tell-people': [{ actions: ['sns:Publish'], resources: [topic.topicArn] }],
    };
    return Object.entries(capabilities).map(([capability, permissions]) => grant(this, capability, role, permissions));
  }
}
