import { Stack, Tags } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';
import { DATABASE_TAG, ROLE_TAG } from '../functions/core/tags.ts';
import { packUserData } from '../functions/shared/user-data.ts';
import { grant } from '../workflows/permission.ts';
import { readCommand } from './command.ts';
import type { DatabaseConfig } from './config.ts';
import type { Network } from './network.ts';

export interface HostTemplateProps {
  readonly name: string;
  readonly database: DatabaseConfig;
  readonly network: Network;
  readonly imageId: string;
}

/** Of the root volume: the operating system and one container image. */
const ROOT_GIB = 8;

/** What every host of a database is made of. No instance is in the template: relocations launch them. */
export class HostTemplate extends Construct {
  readonly launchTemplateId: string;
  readonly securityGroupId: string;
  readonly role: iam.Role;
  readonly #database: string;

  constructor(scope: Construct, id: string, { name, database, network, imageId }: HostTemplateProps) {
    super(scope, id);
    const stack = Stack.of(this);
    this.#database = name;
    this.role = new iam.Role(this, 'Role', {
      assumedBy: new iam.ServicePrincipal('ec2.amazonaws.com'),
      description: `Hosts of the database ${name}.`,
    });
    const profile = new iam.CfnInstanceProfile(this, 'Profile', { roles: [this.role.roleName] });

    const group = new ec2.CfnSecurityGroup(this, 'SecurityGroup', {
      groupDescription: `Keeper: clients of ${name} reach port 5432, nothing else comes in.`,
      vpcId: network.vpcId,
      securityGroupIngress: (database.clients ?? [network.cidr]).map((cidrIp) => ({
        ipProtocol: 'tcp',
        fromPort: 5432,
        toPort: 5432,
        cidrIp,
        description: 'PostgreSQL',
      })),
      securityGroupEgress: onlyHttpsOut,
    });

    this.securityGroupId = group.attrGroupId;

    const [shebang, ...script] = readCommand('takeover').split('\n');
    const userData = [
      shebang,
      `export KEEPER_DATABASE='${name}'`,
      `export KEEPER_REGION='${stack.region}'`,
      `export KEEPER_ADDRESS='${database.address}'`,
      `export KEEPER_PASSWORD_PARAMETER='/keeper/${name}/password'`,
      ...script,
    ].join('\n');
    const tags = tagsOf(name, 'host');
    const template = new ec2.CfnLaunchTemplate(this, 'LaunchTemplate', {
      launchTemplateData: launchTemplateData({
        imageId,
        profileArn: profile.attrArn,
        securityGroupId: this.securityGroupId,
        tags,
        userData,
      }),
      tagSpecifications: [{ resourceType: 'launch-template', tags }],
    });
    this.launchTemplateId = template.ref;
    // What the newest host says of its takeover; the workflow asks here, because the agent of a fresh host comes late.
    new ssm.CfnParameter(this, 'Takeover', {
      name: `/keeper/${name}/takeover`,
      type: 'String',
      value: 'nobody has taken over yet',
      description: `How the newest host of ${name} has taken over.`,
    });
    Tags.of(this).add(DATABASE_TAG, name);
  }

  /**
   * What a host may do: register with Systems Manager, report its task and its takeover, and keep its password. Its own policy, because
   * the role has to exist before the workflows that it reports to.
   */
  mayReport(): iam.Policy {
    const parameterArn = (name: string) =>
      Stack.of(this).formatArn({
        service: 'ssm',
        resource: 'parameter',
        resourceName: `keeper/${this.#database}/${name}`,
      });
    return grant(this, 'report', this.role, [
      {
        actions: ['states:SendTaskSuccess', 'states:SendTaskFailure'],
        resources: ['*'],
        // docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html
        wildcards:
          'IAM cannot limit these actions to resources; without a task token, which is a secret, they do nothing.',
      },
      {
        // docs.aws.amazon.com/systems-manager/latest/userguide/ssm-agent-technical-details.html: the agent's own calls
        actions: [
          'ssm:UpdateInstanceInformation',
          'ssmmessages:CreateControlChannel',
          'ssmmessages:CreateDataChannel',
          'ssmmessages:OpenControlChannel',
          'ssmmessages:OpenDataChannel',
        ],
        resources: ['*'],
        wildcards:
          'How the agent of Systems Manager registers and listens; IAM cannot limit its channels to resources.',
      },
      { actions: ['ssm:GetParameter', 'ssm:PutParameter'], resources: [parameterArn('password')] },
      { actions: ['ssm:PutParameter'], resources: [parameterArn('takeover')] },
    ]);
  }
}

/** The image registry, Step Functions and Systems Manager; all of them have changing addresses. */
export const onlyHttpsOut: ec2.CfnSecurityGroup.EgressProperty[] = [
  { ipProtocol: 'tcp', fromPort: 443, toPort: 443, cidrIp: '0.0.0.0/0', description: 'HTTPS' },
];

export function tagsOf(database: string, role: 'host' | 'scratch'): { key: string; value: string }[] {
  return [
    { key: 'Name', value: `keeper ${database}` },
    { key: DATABASE_TAG, value: database },
    { key: ROLE_TAG, value: role },
  ];
}

/** What all instances have in common: they end when they shut down, and nothing of them remains. */
export function launchTemplateData({
  imageId,
  profileArn,
  securityGroupId,
  tags,
  userData,
}: {
  readonly imageId: string;
  readonly profileArn: string;
  readonly securityGroupId: string;
  readonly tags: { key: string; value: string }[];
  /** A script, without tokens. */
  readonly userData: string;
}): ec2.CfnLaunchTemplate.LaunchTemplateDataProperty {
  return {
    imageId,
    iamInstanceProfile: { arn: profileArn },
    instanceInitiatedShutdownBehavior: 'terminate',
    metadataOptions: { httpTokens: 'required', httpEndpoint: 'enabled', httpPutResponseHopLimit: 1 },
    blockDeviceMappings: [
      {
        deviceName: '/dev/xvda',
        ebs: { volumeSize: ROOT_GIB, volumeType: 'gp3', encrypted: true, deleteOnTermination: true },
      },
    ],
    networkInterfaces: [
      { deviceIndex: 0, associatePublicIpAddress: true, deleteOnTermination: true, groups: [securityGroupId] },
    ],
    tagSpecifications: ['instance', 'volume', 'network-interface', 'spot-instances-request'].map((resourceType) => ({
      resourceType,
      tags,
    })),
    userData: packUserData(userData),
  };
}
