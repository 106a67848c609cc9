import { Duration, Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as sns from 'aws-cdk-lib/aws-sns';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import { Construct } from 'constructs';
import {
  BACKUP_ROLE,
  CENSUS_TAG,
  DATABASE_TAG,
  EXECUTION_TAG,
  EXPIRES_AT_TAG,
  ROLE_TAG,
} from '../functions/core/tags.ts';
import { awaitSnapshot } from './await-snapshot.ts';
import { callAws, giveUp } from './call-aws.ts';
import { Capabilities } from './capabilities.ts';
import { type Databases, findDatabase } from './find-database.ts';
import { jsonata } from './jsonata.ts';
import { onHolder } from './on-holder.ts';
import { grant, type Permission } from './permission.ts';
import type { CommandDocument } from './relocate.ts';
import { runExecution } from './run-execution.ts';
import { tell } from './tell.ts';

export interface BackupProps {
  readonly databases: Databases;
  readonly census: CommandDocument;
  readonly verifyBackup: sfn.IStateMachine;
  readonly topic: sns.ITopic;
}

/** How long census.sh may run. */
export const CENSUS_SECONDS = 600;

/** How long a nightly backup is kept. */
const KEEP_DAYS = 30;

/**
 * The nightly backup: a census inside the database, a snapshot right after it, and a verification of that snapshot. It has
 * succeeded when the backup is proven.
 *
 * Input: `{ "database"? }`.
 */
export class Backup extends Construct {
  readonly stateMachine: sfn.StateMachine;
  readonly #props: BackupProps;

  constructor(scope: Construct, id: string, props: BackupProps) {
    super(scope, id);
    this.#props = props;
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('states.amazonaws.com') });
    const policies = this.#policies(role);
    this.stateMachine = new sfn.StateMachine(this, 'StateMachine', {
      stateMachineName: `${Stack.of(this).stackName.toLowerCase()}-backup`,
      queryLanguage: sfn.QueryLanguage.JSONATA,
      definitionBody: sfn.DefinitionBody.fromChainable(this.#definition()),
      role: role.withoutPolicyUpdates(),
      timeout: Duration.hours(36),
    });
    Validations.of(this.stateMachine).acknowledge(
      { id: 'AwsSolutions-SF1', reason: 'Step Functions keeps the history of a Standard execution for 90 days.' },
      { id: 'AwsSolutions-SF2', reason: 'The history says when each state was entered and left.' },
    );
    this.stateMachine.node.addDependency(...policies);
  }

  #definition(): sfn.IChainable {
    const failed = tell(this, 'Tell people that it failed', {
      topic: this.#props.topic,
      subject: "'Keeper: the backup of ' & $request.database & ' failed'",
      message:
        "'The backup ' & $execution & ' failed: ' & $failure.Error & ': ' & $failure.Cause & ($snapshotId = '' ? '\\n\\nThere is no snapshot of this night.' : '\\n\\nThe snapshot is ' & $snapshotId & '.')",
      next: sfn.Fail.jsonata(this, 'Failed', { error: jsonata('$failure.Error'), cause: jsonata('$failure.Cause') }),
    });
    const done = sfn.Choice.jsonata(this, 'With a census?')
      .when(
        sfn.Condition.jsonata(jsonata("$census != ''")),
        sfn.Succeed.jsonata(this, 'Backed up and proven', {
          outputs: jsonata("$merge([$proof, { 'outcome': 'backed up and proven' }])"),
        }),
      )
      .otherwise(
        giveUp(
          this,
          'Without a census',
          {
            Error: 'NoCensus',
            Cause: jsonata(
              "'the snapshot starts and its pages are intact; what may be missing from it cannot be seen, because ' & $trouble",
            ),
          },
          failed,
        ),
      );
    const verify = runExecution(this, 'Start the verification', {
      what: 'proof',
      stateMachine: this.#props.verifyBackup,
      name: "$database.name & '-verify-' & $snapshotId",
      input: "$string({ 'database': $database.name, 'recoveryPoint': $snapshotId })",
      error: 'NotProven',
      pollSeconds: 60,
      next: done,
      // People have been told by the verification itself.
      failed: sfn.Fail.jsonata(this, 'Not proven', {
        error: jsonata('$failure.Error'),
        cause: jsonata('$failure.Cause'),
      }),
    });
    const take = callAws(this, 'Take the snapshot', ['ec2', 'createSnapshot'], {
      parameters: {
        VolumeId: jsonata('$database.volumeId'),
        Description: jsonata("'Keeper: nightly backup of ' & $database.name"),
        TagSpecifications: [
          {
            ResourceType: 'snapshot',
            Tags: [
              { Key: 'Name', Value: jsonata("'keeper ' & $database.name & ' backup'") },
              { Key: DATABASE_TAG, Value: jsonata('$database.name') },
              { Key: ROLE_TAG, Value: BACKUP_ROLE },
              { Key: EXECUTION_TAG, Value: jsonata('$execution') },
              { Key: CENSUS_TAG, Value: jsonata('$census') },
              { Key: EXPIRES_AT_TAG, Value: jsonata(`$fromMillis($millis() + ${KEEP_DAYS} * 86400000)`) },
            ],
          },
        ],
      },
      assign: { snapshotId: jsonata('$states.result.SnapshotId') },
      failed,
    });
    take.next(
      awaitSnapshot(this, {
        consequence: "'there is no backup of this night: start the same again'",
        next: verify,
        failed,
      }),
    );
    // A backup of which not everything can be proven is better than none.
    const without = sfn.Pass.jsonata(this, 'No census', {
      assign: { census: jsonata("''"), trouble: jsonata('$failure.Cause') },
    });
    without.next(take);
    const census = onHolder(this, 'Take the census', {
      name: 'census',
      document: this.#props.census,
      parameters: { census: '$census' },
      executionSeconds: CENSUS_SECONDS,
      consequence: "'the census could not be taken'",
      next: take,
      failed: without,
    });
    return findDatabase(this, {
      databases: this.#props.databases,
      variables: {
        census: jsonata('$states.context.Execution.Name'),
        snapshotId: jsonata("''"),
        looks: 0,
        tries: 0,
      },
      next: census,
      failed,
    });
  }

  #policies(role: iam.IRole): iam.Policy[] {
    const { databases, census, verifyBackup, topic } = this.#props;
    const can = new Capabilities(Stack.of(this), Object.keys(databases));
    const tags = ['Name', DATABASE_TAG, ROLE_TAG, EXECUTION_TAG, CENSUS_TAG, EXPIRES_AT_TAG];
    const capabilities: Record<string, readonly Permission[]> = {
      'read-parameters': can.readParameters('volume-id'),
      'read-volumes': can.readVolumes(),
      'read-snapshots': can.readSnapshots(),
      'run-commands': can.runCommands([census.arn]),
      'take-snapshots': can.takeSnapshots(tags),
      verify: can.runExecutions(verifyBackup.stateMachineArn, 'verify-backup'),
      'tell-people': [{ actions: ['sns:Publish'], resources: [topic.topicArn] }],
    };
    return Object.entries(capabilities).map(([capability, permissions]) => grant(this, capability, role, permissions));
  }
}
