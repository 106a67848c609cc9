import type { Stack } from 'aws-cdk-lib';
import { NEWEST_AMI_PARAMETER } from '../functions/core/host-spec.ts';
import {
  BACKUP_ROLE,
  BLANK_TAG,
  DATABASE_TAG,
  EXECUTION_TAG,
  IMAGE_TAG,
  PRE_CHANGE_ROLE,
  ROLE_TAG,
  SUPERSEDED_ROLE,
  VERIFIED_AT_TAG,
} from '../functions/core/tags.ts';
import type { Permission } from '../workflows/permission.ts';
import type { Command } from './command.ts';
import type { HostTemplate } from './host-template.ts';
import type { ScratchTemplate } from './scratch-template.ts';

/** Each capability is one named policy on the roles that need it. */
export type Capability =
  | 'readHosts'
  | 'readVolumes'
  | 'readParameters'
  | 'readHostSpecs'
  | 'recordHostSpecs'
  | 'readStatusChecks'
  | 'readImages'
  | 'readInstanceTypes'
  | 'readModifications'
  | 'removeExpired'
  | 'launchHosts'
  | 'launchScratchHosts'
  | 'readRecoveryPoints'
  | 'terminateHosts'
  | 'moveVolumes'
  | 'moveAddresses'
  | 'releaseHosts'
  | 'recordProof';

/** docs.aws.amazon.com/service-authorization/latest/reference: these actions have no resource types. */
const NO_RESOURCES = 'IAM cannot limit this action to resources; it only reads.';
const BY_TAG = "Hosts and volumes come and go; the condition limits this to what carries the database's tag.";
const NOT_YET = 'What is being made has no id yet; the condition demands that it is made with the tag of a database.';

/** What an instance is launched from. */
type Launchable = Pick<HostTemplate, 'launchTemplateId' | 'securityGroupId' | 'role'>;

export interface CapabilityProps {
  /** Names of the databases: the values of the tag. */
  readonly databases: readonly string[];
  readonly hosts: readonly HostTemplate[];
  readonly scratchHosts: readonly ScratchTemplate[];
  /** Where hosts are launched. */
  readonly subnetIds: readonly string[];
  readonly release: Command;
}

/** What Keeper's functions may do, limited by ARN and by the tag `keeper:database` wherever the API allows it. */
export function may(
  stack: Stack,
  { databases, hosts, scratchHosts, subnetIds, release }: CapabilityProps,
): Readonly<Record<Capability, readonly Permission[]>> {
  const arn = (resource: string, resourceName = '*') => stack.formatArn({ service: 'ec2', resource, resourceName });
  const parameter = (database: string, name: string) =>
    stack.formatArn({ service: 'ssm', resource: 'parameter', resourceName: `keeper/${database}/${name}` });
  const hostSpecs = databases.map((name) => parameter(name, 'host'));
  const hostFields = databases.flatMap((name) =>
    ['instance-types', 'image', 'ami'].map((field) => parameter(name, `host/${field}`)),
  );
  const own = { StringEquals: { [`aws:ResourceTag/${DATABASE_TAG}`]: databases } };
  const expirable = (roles: readonly string[]) => ({
    StringEquals: { ...own.StringEquals, [`aws:ResourceTag/${ROLE_TAG}`]: roles },
  });
  // Snapshots have no account in their ARN.
  const snapshots = stack.formatArn({ service: 'ec2', resource: 'snapshot', resourceName: '*', account: '' });
  const born = { StringEquals: { [`aws:RequestTag/${DATABASE_TAG}`]: databases } };

  /** CreateFleet, with all that it makes and all that it takes. */
  const launches = (hosts: readonly Launchable[]): Permission[] => [
    { actions: ['ec2:DescribeLaunchTemplateVersions'], resources: ['*'], wildcards: NO_RESOURCES },
    {
      actions: ['ec2:CreateFleet'],
      resources: [arn('fleet')],
      wildcards: 'A fleet that is being made has no id yet, and its hosts are what the next statements allow.',
    },
    {
      actions: ['ec2:CreateFleet', 'ec2:RunInstances'],
      resources: [
        ...hosts.map((host) => arn('launch-template', host.launchTemplateId)),
        ...subnetIds.map((id) => arn('subnet', id)),
      ],
    },
    {
      actions: ['ec2:RunInstances'],
      resources: hosts.map((host) => arn('security-group', host.securityGroupId)),
    },
    {
      actions: ['ec2:CreateFleet', 'ec2:RunInstances'],
      // Images have no account in their ARN.
      resources: [stack.formatArn({ service: 'ec2', resource: 'image', resourceName: '*', account: '' })],
      wildcards: 'The launch template names the image, which is a newer one at each deployment.',
    },
    {
      actions: ['ec2:CreateFleet', 'ec2:RunInstances'],
      resources: [arn('instance'), arn('volume')],
      conditions: born,
      wildcards: NOT_YET,
    },
    {
      actions: ['ec2:RunInstances'],
      resources: [arn('network-interface'), arn('spot-instances-request')],
      conditions: born,
      wildcards: NOT_YET,
    },
    {
      actions: ['ec2:CreateTags'],
      resources: [arn('instance'), arn('volume'), arn('network-interface'), arn('spot-instances-request')],
      conditions: {
        StringEquals: { 'ec2:CreateAction': ['RunInstances', 'CreateFleet'], ...born.StringEquals },
        'ForAllValues:StringEquals': { 'aws:TagKeys': ['Name', DATABASE_TAG, ROLE_TAG, EXECUTION_TAG, IMAGE_TAG] },
      },
      wildcards: NOT_YET,
    },
    {
      // EC2 makes them at the first fleet and the first Spot launch of an account, and asks whether the launcher may.
      // @see docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
      // and docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-prerequisites.html
      actions: ['iam:CreateServiceLinkedRole'],
      resources: [
        'spot.amazonaws.com/AWSServiceRoleForEC2Spot',
        'ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet',
      ].map((role) =>
        stack.formatArn({
          service: 'iam',
          region: '',
          resource: 'role',
          resourceName: `aws-service-role/${role}`,
        }),
      ),
      conditions: { StringEquals: { 'iam:AWSServiceName': ['spot.amazonaws.com', 'ec2fleet.amazonaws.com'] } },
    },
    {
      actions: ['iam:PassRole'],
      resources: hosts.map((host) => host.role.roleArn),
      conditions: { StringEquals: { 'iam:PassedToService': 'ec2.amazonaws.com' } },
    },
  ];

  return {
    readHosts: [{ actions: ['ec2:DescribeInstances'], resources: ['*'], wildcards: NO_RESOURCES }],
    readVolumes: [{ actions: ['ec2:DescribeVolumes'], resources: ['*'], wildcards: NO_RESOURCES }],
    readParameters: [
      {
        actions: ['ssm:GetParameter'],
        resources: databases.flatMap((name) => ['volume-id', 'takeover'].map((each) => parameter(name, each))),
      },
    ],
    readHostSpecs: [{ actions: ['ssm:GetParametersByPath'], resources: hostSpecs }],
    recordHostSpecs: [{ actions: ['ssm:PutParameter'], resources: hostFields }],
    readStatusChecks: [{ actions: ['ec2:DescribeInstanceStatus'], resources: ['*'], wildcards: NO_RESOURCES }],
    readImages: [
      {
        actions: ['ssm:GetParameter'],
        // AWS's own parameters have no account in their ARN.
        resources: [
          stack.formatArn({
            service: 'ssm',
            account: '',
            resource: 'parameter',
            resourceName: NEWEST_AMI_PARAMETER.slice(1),
          }),
        ],
      },
    ],
    readInstanceTypes: [
      {
        actions: ['ec2:DescribeInstanceTypes', 'ec2:DescribeInstanceTypeOfferings'],
        resources: ['*'],
        wildcards: NO_RESOURCES,
      },
    ],
    readModifications: [{ actions: ['ec2:DescribeVolumesModifications'], resources: ['*'], wildcards: NO_RESOURCES }],
    removeExpired: [
      { actions: ['ec2:DescribeSnapshots'], resources: ['*'], wildcards: NO_RESOURCES },
      {
        actions: ['ec2:DeleteSnapshot'],
        resources: [snapshots],
        conditions: expirable([PRE_CHANGE_ROLE, BACKUP_ROLE]),
        wildcards: BY_TAG,
      },
      {
        actions: ['ec2:DeleteVolume'],
        resources: [arn('volume')],
        conditions: expirable([SUPERSEDED_ROLE]),
        wildcards: BY_TAG,
      },
    ],
    launchHosts: launches(hosts),
    launchScratchHosts: [
      ...launches(scratchHosts),
      {
        actions: ['ec2:RunInstances'],
        resources: [snapshots],
        conditions: own,
        wildcards: BY_TAG,
      },
    ],
    readRecoveryPoints: [{ actions: ['ec2:DescribeSnapshots'], resources: ['*'], wildcards: NO_RESOURCES }],
    terminateHosts: [
      { actions: ['ec2:TerminateInstances'], resources: [arn('instance')], conditions: own, wildcards: BY_TAG },
    ],
    moveVolumes: [
      {
        actions: ['ec2:AttachVolume', 'ec2:DetachVolume'],
        resources: [arn('instance'), arn('volume')],
        conditions: own,
        wildcards: BY_TAG,
      },
    ],
    moveAddresses: [
      {
        actions: ['ec2:AssignPrivateIpAddresses'],
        resources: [arn('network-interface')],
        conditions: own,
        wildcards: BY_TAG,
      },
    ],
    releaseHosts: [
      { actions: ['ssm:SendCommand'], resources: [release.arn] },
      {
        actions: ['ssm:SendCommand'],
        resources: [arn('instance')],
        conditions: { StringEquals: { [`ssm:resourceTag/${DATABASE_TAG}`]: databases } },
        wildcards: BY_TAG,
      },
      { actions: ['ssm:ListCommandInvocations'], resources: ['*'], wildcards: NO_RESOURCES },
    ],
    recordProof: [
      {
        actions: ['ec2:CreateTags'],
        resources: [arn('instance')],
        conditions: { ...own, 'ForAllValues:StringEquals': { 'aws:TagKeys': [VERIFIED_AT_TAG] } },
        wildcards: BY_TAG,
      },
      {
        actions: ['ec2:DeleteTags'],
        resources: [arn('volume')],
        conditions: { ...own, 'ForAllValues:StringEquals': { 'aws:TagKeys': [BLANK_TAG] } },
        wildcards: BY_TAG,
      },
    ],
  };
}
