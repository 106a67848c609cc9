import {
  ArnFormat,
  CfnOutput,
  CfnParameter,
  CustomResource,
  Duration,
  Stack,
  type StackProps,
  Validations,
} from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as actions from 'aws-cdk-lib/aws-cloudwatch-actions';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as subscriptions from 'aws-cdk-lib/aws-sns-subscriptions';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import type { Construct, IConstruct } from 'constructs';
import { RELEASE_EXECUTION_SECONDS } from '../functions/core/decide.ts';
import { NEWEST_AMI_PARAMETER } from '../functions/core/host-spec.ts';
import type { Database } from '../functions/shared/database.ts';
import { Backup, CENSUS_SECONDS } from '../workflows/backup.ts';
import { Change, GROW_SECONDS, UPDATE_EXTENSION_SECONDS } from '../workflows/change.ts';
import { NoteNotice } from '../workflows/note-notice.ts';
import { CHECKPOINT_SECONDS, Relocate, VERIFY_SECONDS } from '../workflows/relocate.ts';
import { type Evidence, VerifyBackup } from '../workflows/verify-backup.ts';
import { may } from './capabilities.ts';
import { Command, VOLUME_ID } from './command.ts';
import { DEFAULT_WINDOW, type KeeperConfig } from './config.ts';
import { HostTemplate } from './host-template.ts';
import { KeeperFunction } from './keeper-function.ts';
import type { Network } from './network.ts';
import { ScratchTemplate } from './scratch-template.ts';

export interface KeeperStackProps extends StackProps {
  readonly config: KeeperConfig;
  readonly network: Network;
  /** Where evidence of verified backups is kept. */
  readonly evidence: Evidence;
}

const ANY_RELOCATION = 'All executions of this one state machine.';

/** Everything that can be replaced: what hosts are made of, the functions, the workflows and what starts them. */
export class KeeperStack extends Stack {
  constructor(scope: Construct, id: string, { config, network, evidence, ...props }: KeeperStackProps) {
    super(scope, id, props);
    const names = Object.keys(config.databases);

    const topic = new sns.Topic(this, 'People', { displayName: 'Keeper', enforceSSL: true });
    for (const address of config.notify) topic.addSubscription(new subscriptions.EmailSubscription(address));
    const undelivered = new sqs.Queue(this, 'Undelivered', { enforceSSL: true, retentionPeriod: Duration.days(14) });
    Validations.of(undelivered).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason: 'It is the dead-letter queue itself, of the rules below; the rule looks for queues only.',
    });

    const alarm = undelivered
      .metricApproximateNumberOfMessagesVisible({ period: Duration.minutes(5), statistic: 'Maximum' })
      .createAlarm(this, 'SomethingUndelivered', {
        alarmDescription:
          'Keeper could not work off an event after several tries. Read it in the queue, and the reason in the log of the function; Keeper itself goes on and looks at everything once a minute.',
        threshold: 0,
        comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        evaluationPeriods: 1,
        treatMissingData: cloudwatch.TreatMissingData.NOT_BREACHING,
      });
    alarm.addAlarmAction(new actions.SnsAction(topic));
    topic.grantPublish(new iam.ServicePrincipal('cloudwatch.amazonaws.com'));

    const image = new CfnParameter(this, 'HostImage', {
      type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>',
      default: NEWEST_AMI_PARAMETER,
      description: 'Amazon Linux 2023 for ARM; the newest one at each deployment.',
    });
    const databases: Record<string, Omit<Database, 'name' | 'volumeId'>> = {};
    const templates: HostTemplate[] = [];
    const scratchTemplates: ScratchTemplate[] = [];
    for (const [name, database] of Object.entries(config.databases)) {
      const { address } = database;
      const subnetId = network.subnetIdOf(database.zone);
      const template = new HostTemplate(this, `Host-${name}`, {
        name,
        database,
        network,
        imageId: image.valueAsString,
      });
      templates.push(template);
      const scratch = new ScratchTemplate(this, `Scratch-${name}`, { name, network, imageId: image.valueAsString });
      scratchTemplates.push(scratch);
      new CfnOutput(this, `Address-${name}`, { value: `${address}:5432`, description: `Where ${name} is served.` });
      databases[name] = {
        address,
        launchTemplateId: template.launchTemplateId,
        scratchTemplateId: scratch.launchTemplateId,
        subnetId,
        zone: database.zone,
        configuredTypes: database.instanceTypes,
      };
    }

    const commands = {
      census: new Command(this, 'census', {
        description: 'Keeper: count what a backup must hold, right before its snapshot is taken.',
        parameters: { census: { description: 'Its id', allowedPattern: '^[A-Za-z0-9_.:-]{1,100}$' } },
        timeoutSeconds: CENSUS_SECONDS,
      }),
      checkpoint: new Command(this, 'checkpoint', {
        description: 'Keeper: write dirty buffers to disk while the database serves.',
        parameters: { seconds: { description: 'Time after which it gives up', allowedPattern: '^[1-9][0-9]{0,2}$' } },
        timeoutSeconds: CHECKPOINT_SECONDS + 5,
      }),
      grow: new Command(this, 'grow', {
        description: "Keeper: grow the file system to its volume's size, while the database serves.",
        parameters: {
          volumeId: VOLUME_ID,
          sizeGiB: { description: 'How large the volume is, in GiB', allowedPattern: '^[1-9][0-9]{0,4}$' },
        },
        timeoutSeconds: GROW_SECONDS,
      }),
      release: new Command(this, 'release', {
        description: 'Keeper: stop the database cleanly and let go of its volume.',
        parameters: { volumeId: VOLUME_ID },
        timeoutSeconds: RELEASE_EXECUTION_SECONDS,
      }),
      updateExtension: new Command(this, 'update-extension', {
        description: 'Keeper: ALTER EXTENSION timescaledb UPDATE in every database that has it.',
        parameters: {},
        timeoutSeconds: UPDATE_EXTENSION_SECONDS,
      }),
      verify: new Command(this, 'verify', {
        description: 'Keeper: prove with a real write that this host serves the database.',
        parameters: {
          volumeId: VOLUME_ID,
          marker: { description: 'What is written', allowedPattern: '^[A-Za-z0-9_.:-]{1,100}$' },
        },
        timeoutSeconds: VERIFY_SECONDS,
      }),
    };
    const can = may(this, {
      databases: names,
      hosts: templates,
      scratchHosts: scratchTemplates,
      subnetIds: Object.values(databases).map(({ subnetId }) => subnetId),
      release: commands.release,
    });
    /** What functions/shared/observe.ts needs. */
    const observe = { 'read-hosts': can.readHosts, 'read-volumes': can.readVolumes };

    const functions = {
      look: new KeeperFunction(this, 'look', {
        description: 'Keeper: what a relocation does next.',
        timeout: Duration.seconds(25),
        may: { ...observe, 'read-status-checks': can.readStatusChecks },
      }),
      launch: new KeeperFunction(this, 'launch', {
        description: 'Keeper: launches a replacement that reports when it is armed.',
        timeout: Duration.seconds(60),
        may: {
          ...observe,
          'read-host-specs': can.readHostSpecs,
          'launch-hosts': can.launchHosts,
          'terminate-hosts': can.terminateHosts,
        },
      }),
      move: new KeeperFunction(this, 'move', {
        description: 'Keeper: brings volume and address to the armed host.',
        timeout: Duration.seconds(65),
        environment: { RELEASE_DOCUMENT: commands.release.documentName },
        may: {
          ...observe,
          'move-volumes': can.moveVolumes,
          'move-addresses': can.moveAddresses,
          'terminate-hosts': can.terminateHosts,
          'release-hosts': can.releaseHosts,
        },
      }),
      retire: new KeeperFunction(this, 'retire', {
        description: 'Keeper: terminates the hosts that were left.',
        timeout: Duration.seconds(35),
        may: {
          ...observe,
          'terminate-hosts': can.terminateHosts,
          'record-proof': can.recordProof,
          'record-host-specs': can.recordHostSpecs,
        },
      }),
    };
    const relocate = new Relocate(this, 'Relocate', {
      databases,
      functions: {
        look: functions.look.lambda,
        launch: functions.launch.lambda,
        move: functions.move.lambda,
        retire: functions.retire.lambda,
      },
      commands,
      topic,
    });
    const machineArn = (name: string) =>
      this.formatArn({
        service: 'states',
        resource: 'stateMachine',
        resourceName: `${this.stackName.toLowerCase()}-${name}`,
        arnFormat: ArnFormat.COLON_RESOURCE_NAME,
      });
    // By name: the runbooks themselves call this function.
    const machines = ['relocate', 'scale-up', 'patch'].map(machineArn);
    const backups = ['backup', 'verify-backup'].map(machineArn);
    const workflows: IConstruct[] = [relocate];
    const preflight = new KeeperFunction(this, 'preflight', {
      description: 'Keeper: whether what a runbook is asked for can be done.',
      timeout: Duration.seconds(50),
      environment: { MACHINES: JSON.stringify(machines) },
      may: {
        ...observe,
        'read-status-checks': can.readStatusChecks,
        'read-host-specs': can.readHostSpecs,
        'read-images': can.readImages,
        'read-instance-types': can.readInstanceTypes,
        'read-modifications': can.readModifications,
        'see-runbooks': [{ actions: ['states:ListExecutions'], resources: machines }],
      },
    });
    for (const [id, runbook] of [
      ['ScaleUp', 'scale-up'],
      ['Patch', 'patch'],
    ] as const) {
      workflows.push(
        new Change(this, id, {
          runbook,
          databases,
          preflight: preflight.lambda,
          relocate: relocate.stateMachine,
          commands,
          topic,
        }),
      );
    }
    const recoveryPoint = new KeeperFunction(this, 'recovery-point', {
      description: 'Keeper: which snapshot somebody means.',
      timeout: Duration.seconds(50),
      may: { 'read-recovery-points': can.readRecoveryPoints },
    });
    const prove = new KeeperFunction(this, 'prove', {
      description: 'Keeper: launches a host that looks at a clone.',
      timeout: Duration.seconds(60),
      may: { 'read-host-specs': can.readHostSpecs, 'launch-scratch-hosts': can.launchScratchHosts },
    });
    const verifyBackup = new VerifyBackup(this, 'VerifyBackup', {
      databases,
      functions: { recoveryPoint: recoveryPoint.lambda, prove: prove.lambda },
      evidence,
      topic,
    });
    const backup = new Backup(this, 'Backup', {
      databases,
      census: commands.census,
      verifyBackup: verifyBackup.stateMachine,
      topic,
    });
    workflows.push(verifyBackup, backup);
    const noteNotice = new NoteNotice(this, 'NoteNotice', { databases: names });
    const { stateMachineArn } = relocate.stateMachine;
    const relocations = [
      this.formatArn({
        service: 'states',
        resource: 'execution',
        resourceName: `${relocate.stateMachine.stateMachineName}:*`,
        arnFormat: ArnFormat.COLON_RESOURCE_NAME,
      }),
    ];
    const startRelocations = [{ actions: ['states:StartExecution'], resources: [stateMachineArn] }];

    const onInterruption = new KeeperFunction(this, 'on-interruption', {
      description: 'Keeper: AWS announces that it takes a host, or a host ends.',
      timeout: Duration.seconds(30),
      undelivered,
      environment: { RELOCATE_ARN: stateMachineArn, NOTE_NOTICE_ARN: noteNotice.stateMachine.stateMachineArn },
      may: {
        'note-notices': [
          {
            actions: ['states:StartSyncExecution'],
            resources: [noteNotice.stateMachine.stateMachineArn],
          },
        ],
        'start-relocations': startRelocations,
        'see-relocations': [
          { actions: ['states:DescribeExecution'], resources: relocations, wildcards: ANY_RELOCATION },
        ],
      },
    });
    const reconcile = new KeeperFunction(this, 'reconcile', {
      description: 'Keeper: once a minute, starts what nothing else has started.',
      timeout: Duration.seconds(50),
      undelivered,
      environment: {
        RELOCATE_ARN: stateMachineArn,
        MACHINES: JSON.stringify(machines),
        BACKUPS: JSON.stringify(backups),
        DATABASES: JSON.stringify(
          Object.fromEntries(
            Object.entries(config.databases).map(([name, { address, window = DEFAULT_WINDOW }]) => [
              name,
              { address, window },
            ]),
          ),
        ),
      },
      may: {
        ...observe,
        'read-status-checks': can.readStatusChecks,
        'read-images': can.readImages,
        'read-host-specs': can.readHostSpecs,
        'read-parameters': can.readParameters,
        'terminate-hosts': can.terminateHosts,
        'remove-expired': can.removeExpired,
        'see-executions': [{ actions: ['states:ListExecutions'], resources: [...machines, ...backups] }],
        'start-relocations': startRelocations,
        'start-backups': [{ actions: ['states:StartExecution'], resources: backups }],
      },
    });

    const rule = (id: string, props: events.RuleProps, target: KeeperFunction) => {
      const made = new events.Rule(this, id, props);
      made.addTarget(
        new targets.LambdaFunction(target.lambda, {
          deadLetterQueue: undelivered,
          retryAttempts: 8,
          maxEventAge: Duration.minutes(15),
        }),
      );
      return made;
    };
    const onNotice = rule(
      'SpotNotice',
      {
        description: 'Keeper: AWS announces that it takes a Spot Instance, or that it is likely to.',
        eventPattern: {
          source: ['aws.ec2'],
          detailType: ['EC2 Spot Instance Interruption Warning', 'EC2 Instance Rebalance Recommendation'],
        },
      },
      onInterruption,
    );
    const onLoss = rule(
      'HostLost',
      {
        description: 'Keeper: an instance ends, by whomever.',
        eventPattern: {
          source: ['aws.ec2'],
          detailType: ['EC2 Instance State-change Notification'],
          detail: { state: ['stopping', 'stopped', 'shutting-down', 'terminated'] },
        },
      },
      onInterruption,
    );
    const everyMinute = rule(
      'EveryMinute',
      { description: 'Keeper: reconcile.', schedule: events.Schedule.rate(Duration.minutes(1)) },
      reconcile,
    );
    // What fails tells people itself, with its reasons; what was stopped, took too long or broke cannot.
    const unsaid = (id: string, detail: Record<string, unknown>) =>
      new events.Rule(this, id, {
        description: 'Keeper: tells people of executions that ended without a word.',
        eventPattern: {
          source: ['aws.states'],
          detailType: ['Step Functions Execution Status Change'],
          detail: { stateMachineArn: [...machines, ...backups], ...detail },
        },
        targets: [
          new targets.SnsTopic(topic, {
            deadLetterQueue: undelivered,
            message: events.RuleTargetInput.fromText(
              `The execution ${events.EventField.fromPath('$.detail.name')} ended as ${events.EventField.fromPath('$.detail.status')}. If no host serves, Keeper brings the database back by itself; a backup that was being taken or verified is not proven. What happened is in its history, under Step Functions.`,
            ),
          }),
        ],
      });
    unsaid('ExecutionStopped', { status: ['TIMED_OUT', 'ABORTED'] });
    unsaid('ExecutionBroken', { status: ['FAILED'], error: [{ prefix: 'States.' }] });

    const removeHosts = new KeeperFunction(this, 'remove-hosts', {
      description: 'Keeper: terminates all hosts when the stack is deleted.',
      timeout: Duration.minutes(15),
      may: {
        'read-hosts': can.readHosts,
        'terminate-hosts': can.terminateHosts,
        'stop-executions': [
          { actions: ['states:ListExecutions'], resources: [...machines, ...backups] },
          {
            actions: ['states:StopExecution'],
            resources: [...machines, ...backups].map((arn) => `${arn.replace(':stateMachine:', ':execution:')}:*`),
            wildcards: "All executions of Keeper's state machines.",
          },
        ],
      },
    });
    // Hosts are in no template: whoever deletes the stack means them too. Everything that could start a host goes before
    // them, and everything that a host is made of after them.
    const hosts = new CustomResource(this, 'Hosts', {
      serviceToken: removeHosts.lambda.functionArn,
      properties: { Machines: [...machines, ...backups], Databases: names },
    });
    // It names them by ARN, which CloudFormation does not see.
    hosts.node.addDependency(...workflows);
    for (const rule of [everyMinute, onNotice, onLoss]) rule.node.addDependency(hosts);
    for (const template of [...templates, ...scratchTemplates])
      hosts.node.addDependency(template, template.mayReport());
  }
}
