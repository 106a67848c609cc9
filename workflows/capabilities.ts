import { ArnFormat, type Stack } from 'aws-cdk-lib';
import { DATABASE_TAG } from '../functions/core/tags.ts';
import type { Permission } from './permission.ts';

/** docs.aws.amazon.com/service-authorization/latest/reference: these actions have no resource types. */
export const READS_ONLY = 'IAM cannot limit this action to resources; it only reads.';
export const BY_TAG = "The condition limits this to what carries a database's tag.";

/** What several workflows may do, limited to what carries the tag of one of the databases. */
export class Capabilities {
  readonly #stack: Stack;
  readonly #databases: readonly string[];

  /** @param databases the values of the tag `keeper:database` */
  constructor(stack: Stack, databases: readonly string[]) {
    this.#stack = stack;
    this.#databases = databases;
  }

  /** Conditions on what exists, and on what is being made. */
  get own() {
    return { StringEquals: { [`aws:ResourceTag/${DATABASE_TAG}`]: this.#databases } };
  }
  get born() {
    return { StringEquals: { [`aws:RequestTag/${DATABASE_TAG}`]: this.#databases } };
  }

  /** All resources of a kind, e.g. `volume`. Snapshots have no account in their ARN. */
  arn(resource: 'instance' | 'volume' | 'snapshot'): string {
    const account = resource === 'snapshot' ? { account: '' } : {};
    return this.#stack.formatArn({ service: 'ec2', resource, resourceName: '*', ...account });
  }

  readParameters(...names: readonly string[]): Permission[] {
    const resources = this.#databases.flatMap((database) =>
      names.map((name) =>
        this.#stack.formatArn({ service: 'ssm', resource: 'parameter', resourceName: `keeper/${database}/${name}` }),
      ),
    );
    return [{ actions: ['ssm:GetParameter'], resources }];
  }

  readVolumes(): Permission[] {
    return [{ actions: ['ec2:DescribeVolumes'], resources: ['*'], wildcards: READS_ONLY }];
  }

  readSnapshots(): Permission[] {
    return [{ actions: ['ec2:DescribeSnapshots'], resources: ['*'], wildcards: READS_ONLY }];
  }

  /** @param tags the keys that the snapshot is made with */
  takeSnapshots(tags: readonly string[]): Permission[] {
    const snapshots = this.arn('snapshot');
    return [
      { actions: ['ec2:CreateSnapshot'], resources: [this.arn('volume')], conditions: this.own, wildcards: BY_TAG },
      { actions: ['ec2:CreateSnapshot'], resources: [snapshots], conditions: this.born, wildcards: BY_TAG },
      {
        actions: ['ec2:CreateTags'],
        resources: [snapshots],
        conditions: {
          StringEquals: { 'ec2:CreateAction': ['CreateSnapshot'], ...this.born.StringEquals },
          'ForAllValues:StringEquals': { 'aws:TagKeys': tags },
        },
        wildcards: BY_TAG,
      },
    ];
  }

  /** @param documents ARNs */
  runCommands(documents: readonly string[]): Permission[] {
    return [
      { actions: ['ssm:SendCommand'], resources: documents },
      {
        actions: ['ssm:SendCommand'],
        resources: [this.arn('instance')],
        conditions: { StringEquals: { [`ssm:resourceTag/${DATABASE_TAG}`]: this.#databases } },
        wildcards: BY_TAG,
      },
      { actions: ['ssm:GetCommandInvocation'], resources: ['*'], wildcards: READS_ONLY },
    ];
  }

  /** Start another workflow and look how it goes. @param name the end of its state machine's name */
  runExecutions(stateMachineArn: string, name: string): Permission[] {
    const executions = this.#stack.formatArn({
      service: 'states',
      resource: 'execution',
      resourceName: `${this.#stack.stackName.toLowerCase()}-${name}:*`,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
    return [
      { actions: ['states:StartExecution'], resources: [stateMachineArn] },
      {
        actions: ['states:DescribeExecution'],
        resources: [executions],
        wildcards: 'All executions of this one state machine.',
      },
    ];
  }
}
