import { Duration, Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import type * as s3 from 'aws-cdk-lib/aws-s3';
import type * as sns from 'aws-cdk-lib/aws-sns';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import { Construct } from 'constructs';
import {
  DATABASE_TAG,
  EXECUTION_TAG,
  LEVEL_TAG,
  PROVEN_AT_TAG,
  ROLE_TAG,
  SCRATCH_ROLE,
} from '../functions/core/tags.ts';
import { callAws, giveUp, pause } from './call-aws.ts';
import { BY_TAG, Capabilities, READS_ONLY } from './capabilities.ts';
import { catchAll } from './failures.ts';
import { type Databases, findDatabase } from './find-database.ts';
import { jsonata } from './jsonata.ts';
import { grant, type Permission } from './permission.ts';
import { tell } from './tell.ts';

/** A bucket. */
export type Evidence = Pick<s3.Bucket, 'bucketName' | 'arnForObjects'>;

export interface VerifyBackupProps {
  readonly databases: Databases;
  readonly functions: Readonly<Record<'recoveryPoint' | 'prove', lambda.IFunction>>;
  /** Where the evidence is kept. */
  readonly evidence: Evidence;
  readonly topic: sns.ITopic;
}

/** The namespace of Keeper's metrics. */
export const METRICS = 'Keeper';

/** A scratch host sends a heartbeat every minute; after ten without one it is given up. */
const HEARTBEAT_MINUTES = 10;
/** Reading a terabyte from a new clone takes hours. */
const PROOF_HOURS = 12;
/** Scratch hosts that may be lost (AWS takes them, too) before it is a failure. */
const MOST_ATTEMPTS = 3;
/** What lets a snapshot count as proven: everything was read, and there was a census to miss things by. */
const WHOLE = "($level = 'full' and $point.census != '')";

/**
 * Restores a recovery point for real, on a scratch host of its own, and looks whether everything is there that has to be.
 *
 * Input: `{ "database"?, "recoveryPoint"?: "latest" | "latest-proven" | snapshot id | ISO 8601, "level"?: "full" | "quick",
 * "freshHours"?: number }`. With `freshHours`, a recovery point that is older is a failure.
 *
 *   Find the recovery point ─► Prove it (scratch host with a clone) ─► Remove the scratch host ─► Keep the evidence ─► Proven
 *
 * The clone is born and ends with its host, so nothing has to be attached, detached or deleted.
 */
export class VerifyBackup extends Construct {
  readonly stateMachine: sfn.StateMachine;
  readonly #props: VerifyBackupProps;
  #failure: sfn.State | undefined;

  constructor(scope: Construct, id: string, props: VerifyBackupProps) {
    super(scope, id);
    this.#props = props;
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('states.amazonaws.com') });
    const policies = this.#policies(role);
    this.stateMachine = new sfn.StateMachine(this, 'StateMachine', {
      stateMachineName: `${Stack.of(this).stackName.toLowerCase()}-verify-backup`,
      queryLanguage: sfn.QueryLanguage.JSONATA,
      definitionBody: sfn.DefinitionBody.fromChainable(this.#definition()),
      role: role.withoutPolicyUpdates(),
      timeout: Duration.hours(2 * PROOF_HOURS),
    });
    Validations.of(this.stateMachine).acknowledge(
      {
        id: 'AwsSolutions-SF1',
        reason:
          'Step Functions keeps the history of a Standard execution for 90 days; a log would add task tokens to it.',
      },
      { id: 'AwsSolutions-SF2', reason: 'The history says when each state was entered and left.' },
    );
    this.stateMachine.node.addDependency(...policies);
  }

  #definition(): sfn.IChainable {
    const find = tasks.LambdaInvoke.jsonata(this, 'Find the recovery point', {
      lambdaFunction: this.#props.functions.recoveryPoint,
      payload: sfn.TaskInput.fromObject({
        database: jsonata('$database.name'),
        recoveryPoint: jsonata("$exists($request.recoveryPoint) ? $request.recoveryPoint : 'latest'"),
        freshHours: jsonata('$exists($request.freshHours) ? $request.freshHours : 0'),
      }),
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.duration(Duration.seconds(60)),
      assign: { point: jsonata('$states.result.Payload') },
    });
    find.addRetry({ errors: ['Refused'], maxAttempts: 0 });
    find.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 5, backoffRate: 2 });
    catchAll(find, this.#failed());
    find.next(this.#prove());
    return findDatabase(this, {
      databases: this.#props.databases,
      variables: {
        level: jsonata("$exists($states.input.level) and $states.input.level = 'quick' ? 'quick' : 'full'"),
        attempt: 1,
        point: { id: 'no recovery point' },
        began: jsonata('$millis()'),
      },
      next: find,
      failed: this.#failed(),
    });
  }

  #prove(): sfn.State {
    const prove = tasks.LambdaInvoke.jsonata(this, 'Prove it', {
      lambdaFunction: this.#props.functions.prove,
      integrationPattern: sfn.IntegrationPattern.WAIT_FOR_TASK_TOKEN,
      payload: sfn.TaskInput.fromObject({
        database: jsonata('$database'),
        execution: jsonata('$execution'),
        attempt: jsonata('$attempt'),
        snapshotId: jsonata('$point.id'),
        census: jsonata('$point.census'),
        level: jsonata('$level'),
        taskToken: jsonata('$states.context.Task.Token'),
      }),
      // The host answers, not the function: there is one attempt a token, and the next one is a new state entry.
      retryOnServiceExceptions: false,
      taskTimeout: sfn.Timeout.duration(Duration.hours(PROOF_HOURS)),
      heartbeatTimeout: sfn.Timeout.duration(Duration.minutes(HEARTBEAT_MINUTES)),
      assign: { proof: jsonata('$states.result') },
    });
    const again = sfn.Pass.jsonata(this, 'Another scratch host', { assign: { attempt: jsonata('$attempt + 1') } });
    const wait = pause(this, 'Wait for another try', 60);
    again.next(wait);
    wait.next(prove);
    const lost = this.#removeHosts(
      'Remove what did not report',
      sfn.Choice.jsonata(this, 'Try again?')
        .when(sfn.Condition.jsonata(jsonata(`$attempt < ${MOST_ATTEMPTS}`)), again)
        .otherwise(this.#failed()),
    );
    catchAll(prove, lost);
    prove.next(this.#removeHosts('Remove the scratch host', this.#keepEvidence()));
    return prove;
  }

  /** By tag, so that it is certain that none of this execution is left. That it fails says nothing of the proof. */
  #removeHosts(id: string, next: sfn.State): sfn.State {
    const find = callAws(this, `${id}: find it`, ['ec2', 'describeInstances'], {
      parameters: {
        Filters: [
          { Name: `tag:${DATABASE_TAG}`, Values: [jsonata('$database.name')] },
          { Name: `tag:${ROLE_TAG}`, Values: [SCRATCH_ROLE] },
          { Name: `tag:${EXECUTION_TAG}`, Values: [jsonata('$execution')] },
          { Name: 'instance-state-name', Values: ['pending', 'running', 'stopping', 'stopped'] },
        ],
      },
      assign: { scratchHosts: jsonata('[$states.result.Reservations.Instances.InstanceId]') },
      failed: next,
    });
    const terminate = callAws(this, id, ['ec2', 'terminateInstances'], {
      parameters: { InstanceIds: jsonata('$scratchHosts') },
      failed: next,
    });
    terminate.next(next);
    find.next(
      sfn.Choice.jsonata(this, `${id}: is there one?`)
        .when(sfn.Condition.jsonata(jsonata('$count($scratchHosts) > 0')), terminate)
        .otherwise(next),
    );
    return find;
  }

  #keepEvidence(): sfn.State {
    const failed = this.#failed();
    const summarise = sfn.Pass.jsonata(this, 'Summarise', {
      assign: {
        findings: jsonata('[$proof.checks[ok = false].detail]'),
        report: {
          database: jsonata('$database.name'),
          snapshot: jsonata('$point.id'),
          takenAt: jsonata('$point.takenAt'),
          census: jsonata('$point.census'),
          verifiedAt: jsonata('$now()'),
          ageSeconds: jsonata('$round(($millis() - $toMillis($point.takenAt)) / 1000)'),
          tookSeconds: jsonata('$round(($millis() - $began) / 1000)'),
          proof: jsonata('$proof'),
        },
      },
    });
    const keep = callAws(this, 'Keep the evidence', ['s3', 'putObject'], {
      parameters: {
        Bucket: this.#props.evidence.bucketName,
        Key: jsonata("'evidence/' & $database.name & '/' & $point.id & '.json'"),
        Body: jsonata('$report'),
        ContentType: 'application/json',
      },
      failed,
    });
    const measure = callAws(this, 'Put metrics', ['cloudwatch', 'putMetricData'], {
      parameters: {
        Namespace: METRICS,
        MetricData: [
          this.#metric('BackupProven', 'None', "$proof.ok and $point.census != '' ? 1 : 0"),
          this.#metric('RecoveryPointAge', 'Seconds', '$report.ageSeconds'),
          this.#metric(
            'RecoveryTime',
            'Seconds',
            "$type($proof.recoverySeconds) = 'number' ? $proof.recoverySeconds : 0",
          ),
        ],
      },
      failed,
    });
    const mark = callAws(this, 'Mark it as proven', ['ec2', 'createTags'], {
      parameters: {
        Resources: [jsonata('$point.id')],
        Tags: [
          { Key: PROVEN_AT_TAG, Value: jsonata('$report.verifiedAt') },
          { Key: LEVEL_TAG, Value: jsonata('$level') },
        ],
      },
      failed,
    });
    const proven = sfn.Succeed.jsonata(this, 'Proven', {
      outputs: {
        database: jsonata('$database.name'),
        outcome: jsonata(`${WHOLE} ? 'proven' : 'verified in part'`),
        snapshot: jsonata('$point.id'),
        takenAt: jsonata('$point.takenAt'),
        level: jsonata('$level'),
        checks: jsonata('[$proof.checks.name]'),
        recoverySeconds: jsonata('$report.proof.recoverySeconds'),
        tookSeconds: jsonata('$report.tookSeconds'),
      },
    });
    const publish = tell(this, 'Publish', {
      topic: this.#props.topic,
      subject: `'Keeper: ' & $database.name & ': the backup of ' & $substring($point.takenAt, 0, 16) & (${WHOLE} ? ' is proven' : ' is verified in part')`,
      message:
        "'The snapshot ' & $point.id & ' of ' & $database.name & ' (' & $point.takenAt & ') was restored and verified (' & $level & ', ' & $count($proof.checks) & ' checks, recovered in ' & $proof.recoverySeconds & ' s, ' & $report.tookSeconds & ' s in all).' & ($point.census = '' ? ' No census was written before it: what is missing from it cannot be seen.' : '')",
      next: proven,
    });
    // What was proven once and is damaged now is nothing to restore from, and nothing to keep for that.
    const unmark = callAws(this, 'Mark it as not proven', ['ec2', 'deleteTags'], {
      parameters: { Resources: [jsonata('$point.id')], Tags: [{ Key: PROVEN_AT_TAG }, { Key: LEVEL_TAG }] },
      failed,
    });
    const wrong = giveUp(
      this,
      'Not proven',
      {
        Error: 'NotProven',
        Cause: jsonata(
          "'the snapshot ' & $point.id & ' of ' & $point.takenAt & ': ' & $join($findings[[0..4]], '; ') & ($count($findings) > 5 ? '; and ' & ($count($findings) - 5) & ' more, which the evidence has' : '')",
        ),
      },
      failed,
    );
    summarise.next(keep);
    keep.next(measure);
    measure.next(
      sfn.Choice.jsonata(this, 'Is everything there?')
        .when(sfn.Condition.jsonata(jsonata(`$proof.ok and ${WHOLE}`)), mark)
        .when(sfn.Condition.jsonata(jsonata('$proof.ok')), publish)
        .otherwise(unmark),
    );
    mark.next(publish);
    unmark.next(wrong);
    return summarise;
  }

  #metric(MetricName: string, Unit: string, value: string) {
    return {
      MetricName,
      Unit,
      Value: jsonata(value),
      Dimensions: [{ Name: 'Database', Value: jsonata('$database.name') }],
    };
  }

  #failed(): sfn.State {
    this.#failure ??= tell(this, 'Tell people that it failed', {
      topic: this.#props.topic,
      subject: "'Keeper: ' & $request.database & ': a backup is NOT proven'",
      message:
        "'The verification ' & $execution & ' failed: ' & $failure.Error & ': ' & $failure.Cause & '\\n\\nUntil a verification succeeds, trust older recovery points: those that are tagged keeper:proven-at.'",
      next: sfn.Fail.jsonata(this, 'Failed', { error: jsonata('$failure.Error'), cause: jsonata('$failure.Cause') }),
    });
    return this.#failure;
  }

  #policies(role: iam.IRole): iam.Policy[] {
    const { functions, evidence, topic, databases } = this.#props;
    const can = new Capabilities(Stack.of(this), Object.keys(databases));
    const capabilities: Record<string, readonly Permission[]> = {
      'invoke-functions': [
        { actions: ['lambda:InvokeFunction'], resources: Object.values(functions).map((each) => each.functionArn) },
      ],
      'read-parameters': can.readParameters('volume-id'),
      'remove-scratch-hosts': [
        { actions: ['ec2:DescribeInstances'], resources: ['*'], wildcards: READS_ONLY },
        {
          actions: ['ec2:TerminateInstances'],
          resources: [can.arn('instance')],
          conditions: { StringEquals: { ...can.own.StringEquals, [`aws:ResourceTag/${ROLE_TAG}`]: SCRATCH_ROLE } },
          wildcards: BY_TAG,
        },
      ],
      'keep-evidence': [
        {
          actions: ['s3:PutObject'],
          resources: [evidence.arnForObjects('evidence/*')],
          wildcards: 'One object for each recovery point.',
        },
        {
          actions: ['cloudwatch:PutMetricData'],
          resources: ['*'],
          conditions: { StringEquals: { 'cloudwatch:namespace': METRICS } },
          wildcards: 'IAM cannot limit this action to resources; the condition limits it to a namespace.',
        },
        {
          actions: ['ec2:CreateTags', 'ec2:DeleteTags'],
          resources: [can.arn('snapshot')],
          conditions: {
            ...can.own,
            'ForAllValues:StringEquals': { 'aws:TagKeys': [PROVEN_AT_TAG, LEVEL_TAG] },
          },
          wildcards: BY_TAG,
        },
      ],
      'tell-people': [{ actions: ['sns:Publish'], resources: [topic.topicArn] }],
    };
    return Object.entries(capabilities).map(([capability, permissions]) => grant(this, capability, role, permissions));
  }
}
