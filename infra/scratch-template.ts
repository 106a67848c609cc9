import { Stack, Tags } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as iam from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { DATABASE_TAG, SCRATCH_ROLE } from '../functions/core/tags.ts';
import { grant } from '../workflows/permission.ts';
import { readCommand } from './command.ts';
import { launchTemplateData, onlyHttpsOut, tagsOf } from './host-template.ts';
import type { Network } from './network.ts';

export interface ScratchTemplateProps {
  readonly name: string;
  readonly network: Network;
  readonly imageId: string;
}

/** What hosts are made of that look at a clone of a database, and can reach neither the database nor its password. */
export class ScratchTemplate extends Construct {
  readonly launchTemplateId: string;
  readonly securityGroupId: string;
  readonly role: iam.Role;

  constructor(scope: Construct, id: string, { name, network, imageId }: ScratchTemplateProps) {
    super(scope, id);
    this.role = new iam.Role(this, 'Role', {
      assumedBy: new iam.ServicePrincipal('ec2.amazonaws.com'),
      description: `Hosts that look at clones of ${name}.`,
    });
    const profile = new iam.CfnInstanceProfile(this, 'Profile', { roles: [this.role.roleName] });
    const group = new ec2.CfnSecurityGroup(this, 'SecurityGroup', {
      groupDescription: `Keeper: nothing comes in to hosts that look at clones of ${name}.`,
      vpcId: network.vpcId,
      securityGroupEgress: onlyHttpsOut,
    });
    this.securityGroupId = group.attrGroupId;
    const [shebang, ...script] = readCommand('prove').split('\n');
    const userData = [
      shebang,
      `export KEEPER_DATABASE='${name}'`,
      `export KEEPER_REGION='${Stack.of(this).region}'`,
      ...script,
    ].join('\n');
    const tags = tagsOf(name, SCRATCH_ROLE);
    this.launchTemplateId = new ec2.CfnLaunchTemplate(this, 'LaunchTemplate', {
      launchTemplateData: launchTemplateData({
        imageId,
        profileArn: profile.attrArn,
        securityGroupId: this.securityGroupId,
        tags,
        userData,
      }),
      tagSpecifications: [{ resourceType: 'launch-template', tags }],
    }).ref;
    Tags.of(this).add(DATABASE_TAG, name);
  }

  /** It may say what it has found, and nothing else. */
  mayReport(): iam.Policy {
    return grant(this, 'report', this.role, [
      {
        actions: ['states:SendTaskSuccess', 'states:SendTaskFailure', 'states:SendTaskHeartbeat'],
        resources: ['*'],
        // docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html
        wildcards:
          'IAM cannot limit these actions to resources; without a task token, which is a secret, they do nothing.',
      },
    ]);
  }
}
