import type { Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import { BLANK_TAG, DATABASE_TAG, EXECUTION_TAG, ROLE_TAG } from '../functions/core/tags.ts';
import type { Command } from './command.ts';

/** Each capability is one named policy on the roles that need it. */
export type Capability =
  | 'readHosts'
  | 'readVolumeIds'
  | 'launchHosts'
  | 'terminateHosts'
  | 'moveVolumes'
  | 'moveAddresses'
  | 'releaseHosts'
  | 'removeBlankMark';

/**
 * What Keeper's functions may do, limited by ARN and by the tag `keeper:database` wherever the API allows it.
 *
 * @param databases their names: the values of the tag
 */
export function may(
  stack: Stack,
  databases: readonly string[],
  { hostRoles, release }: { hostRoles: readonly iam.IRole[]; release: Command },
): Readonly<Record<Capability, iam.PolicyStatement[]>> {
  const arn = (resource: string, resourceName = '*') => stack.formatArn({ service: 'ec2', resource, resourceName });
  /** Owned by AWS or others: images have no account in their ARN. */
  const image = stack.formatArn({ service: 'ec2', resource: 'image', resourceName: '*', account: '' });
  const own = { StringEquals: { [`aws:ResourceTag/${DATABASE_TAG}`]: [...databases] } };
  const born = { StringEquals: { [`aws:RequestTag/${DATABASE_TAG}`]: [...databases] } };
  const allow = (
    actions: string[],
    resources: string[],
    conditions?: Record<string, Record<string, string | string[]>>,
  ) => new iam.PolicyStatement({ actions, resources, ...(conditions && { conditions }) });

  return {
    // Describe actions know no resources.
    readHosts: [allow(['ec2:DescribeInstances', 'ec2:DescribeVolumes'], ['*'])],
    readVolumeIds: [
      allow(
        ['ssm:GetParameter'],
        databases.map((name) =>
          stack.formatArn({ service: 'ssm', resource: 'parameter', resourceName: `keeper/${name}/volume-id` }),
        ),
      ),
    ],
    launchHosts: [
      allow(['ec2:DescribeLaunchTemplateVersions'], ['*']),
      allow(['ec2:CreateFleet'], [arn('fleet')]),
      // What a host is made of; that it is made as Keeper says is ensured by the launch template's own tag.
      allow(['ec2:CreateFleet', 'ec2:RunInstances'], [arn('launch-template')], own),
      allow(['ec2:CreateFleet', 'ec2:RunInstances'], [arn('subnet'), image]),
      allow(['ec2:RunInstances'], [arn('security-group')]),
      allow(['ec2:CreateFleet', 'ec2:RunInstances'], [arn('instance'), arn('volume')], born),
      allow(['ec2:RunInstances'], [arn('network-interface'), arn('spot-instances-request')], born),
      allow(
        ['ec2:CreateTags'],
        [arn('instance'), arn('volume'), arn('network-interface'), arn('spot-instances-request')],
        {
          StringEquals: {
            'ec2:CreateAction': ['RunInstances', 'CreateFleet'],
            [`aws:RequestTag/${DATABASE_TAG}`]: [...databases],
          },
          'ForAllValues:StringEquals': { 'aws:TagKeys': ['Name', DATABASE_TAG, ROLE_TAG, EXECUTION_TAG] },
        },
      ),
      allow(
        ['iam:PassRole'],
        hostRoles.map((role) => role.roleArn),
        { StringEquals: { 'iam:PassedToService': 'ec2.amazonaws.com' } },
      ),
    ],
    terminateHosts: [allow(['ec2:TerminateInstances'], [arn('instance')], own)],
    moveVolumes: [allow(['ec2:AttachVolume', 'ec2:DetachVolume'], [arn('instance'), arn('volume')], own)],
    moveAddresses: [allow(['ec2:AssignPrivateIpAddresses'], [arn('network-interface')], own)],
    releaseHosts: [
      allow(['ssm:SendCommand'], [release.arn]),
      allow(['ssm:SendCommand'], [arn('instance')], {
        StringEquals: { [`ssm:resourceTag/${DATABASE_TAG}`]: [...databases] },
      }),
      allow(['ssm:ListCommandInvocations'], ['*']),
    ],
    removeBlankMark: [
      allow(['ec2:DeleteTags'], [arn('volume')], {
        ...own,
        'ForAllValues:StringEquals': { 'aws:TagKeys': [BLANK_TAG] },
      }),
    ],
  };
}
