import { Duration, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import { Construct } from 'constructs';
import { DATABASE_TAG, INTERRUPTED_AT_TAG, ROLE_TAG, VERIFIED_AT_TAG } from '../functions/core/tags.ts';
import { jsonata } from './jsonata.ts';
import { grant } from './permission.ts';

/**
 * Whose host is it that AWS announces to take, and a note of it on the host: a relocation that is already on its way reads
 * the deadline there. Of a host that ends, only one matters that has served and still holds its volume: the others were
 * left on purpose. Express and synchronous; called by functions/on-interruption, which has no EC2 client.
 *
 * Input: a Notice. Output: `{ "database": name | null, "holdsVolume": boolean }`.
 */
export class NoteNotice extends Construct {
  readonly stateMachine: sfn.StateMachine;

  constructor(scope: Construct, id: string, props: { readonly databases: readonly string[] }) {
    super(scope, id);
    const result = tasks.CallAwsService.jsonata(this, 'Read its tags', {
      service: 'ec2',
      action: 'describeInstances',
      // A filter: an instance that no longer exists is an empty answer instead of an error.
      parameters: { Filters: [{ Name: 'instance-id', Values: [jsonata('$states.input.instanceId')] }] },
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(20)),
      assign: {
        notice: jsonata('$states.input'),
        tags: jsonata('$merge([{}, $states.result.Reservations.Instances.Tags.{ Key: Value }])'),
        volumes: jsonata('$count($states.result.Reservations.Instances.BlockDeviceMappings)'),
      },
    });
    const foreign = sfn.Succeed.jsonata(this, 'No host that serves', {
      outputs: { database: null, holdsVolume: false },
    });
    const noted = sfn.Succeed.jsonata(this, 'A host of Keeper', {
      outputs: { database: jsonata(`$lookup($tags, '${DATABASE_TAG}')`), holdsVolume: jsonata('$volumes > 1') },
    });
    const note = tasks.CallAwsService.jsonata(this, 'Note the time on the host', {
      service: 'ec2',
      action: 'createTags',
      parameters: {
        Resources: [jsonata('$notice.instanceId')],
        Tags: [{ Key: INTERRUPTED_AT_TAG, Value: jsonata('$notice.noticedAt') }],
      },
      iamResources: ['*'],
      taskTimeout: sfn.Timeout.duration(Duration.seconds(20)),
    });
    const names = JSON.stringify(props.databases).replaceAll('"', "'");
    const ours = `$lookup($tags, '${ROLE_TAG}') = 'host' and $lookup($tags, '${DATABASE_TAG}') in ${names}`;
    // Beside the root volume it has another one.
    const served = `$exists($lookup($tags, '${VERIFIED_AT_TAG}')) and $volumes > 1`;
    for (const task of [result, note]) {
      task.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 3, backoffRate: 2 });
    }
    result.next(
      sfn.Choice.jsonata(this, 'Ours?')
        .when(sfn.Condition.jsonata(jsonata(`${ours} and $exists($notice.noticedAt)`)), note)
        .when(sfn.Condition.jsonata(jsonata(`${ours} and ($notice.kind != 'host-lost' or ${served})`)), noted)
        .otherwise(foreign),
    );
    note.next(noted);

    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('states.amazonaws.com') });
    const policies = [
      grant(this, 'read-hosts', role, [
        {
          actions: ['ec2:DescribeInstances'],
          resources: ['*'],
          wildcards: 'IAM cannot limit this action to resources; it only reads.',
        },
      ]),
      grant(this, 'note-on-hosts', role, [
        {
          actions: ['ec2:CreateTags'],
          resources: [Stack.of(this).formatArn({ service: 'ec2', resource: 'instance', resourceName: '*' })],
          conditions: {
            StringEquals: { [`aws:ResourceTag/${DATABASE_TAG}`]: props.databases },
            'ForAllValues:StringEquals': { 'aws:TagKeys': [INTERRUPTED_AT_TAG] },
          },
          wildcards: "Hosts come and go; the condition limits this to what carries a database's tag.",
        },
      ]),
      grant(this, 'write-logs', role, [
        {
          // docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html, "IAM Policies for logging to CloudWatch Logs"
          actions: [
            'logs:CreateLogDelivery',
            'logs:GetLogDelivery',
            'logs:UpdateLogDelivery',
            'logs:DeleteLogDelivery',
            'logs:ListLogDeliveries',
            'logs:PutResourcePolicy',
            'logs:DescribeResourcePolicies',
            'logs:DescribeLogGroups',
          ],
          resources: ['*'],
          wildcards: 'IAM cannot limit the delivery of logs to resources.',
        },
      ]),
    ];
    // Step Functions keeps no history of an Express execution: what it logs is all that there is.
    const logGroup = new logs.LogGroup(this, 'Logs', {
      retention: logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    this.stateMachine = new sfn.StateMachine(this, 'StateMachine', {
      stateMachineType: sfn.StateMachineType.EXPRESS,
      queryLanguage: sfn.QueryLanguage.JSONATA,
      definitionBody: sfn.DefinitionBody.fromChainable(result),
      role: role.withoutPolicyUpdates(),
      timeout: Duration.minutes(1),
      logs: { destination: logGroup, level: sfn.LogLevel.ALL, includeExecutionData: true },
    });
    Validations.of(this.stateMachine).acknowledge({
      id: 'AwsSolutions-SF2',
      reason: 'Two calls to EC2, whose times the log has.',
    });
    this.stateMachine.node.addDependency(...policies);
  }
}
