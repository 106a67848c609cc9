import { CfnDeletionPolicy, Duration, RemovalPolicy, Stack, type StackProps, Tags, Validations } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import type { Construct } from 'constructs';
import { BLANK_TAG, DATABASE_TAG, ROLE_TAG } from '../functions/core/tags.ts';
import type { DatabaseConfig, KeeperConfig } from './config.ts';
import { Network } from './network.ts';

export interface DataStackProps extends StackProps {
  readonly config: KeeperConfig;
}

/** How long it is kept what was found in a backup. */
const EVIDENCE_DAYS = 366;

/** What must outlive everything else: the network with the databases' addresses, and the data volumes. */
export class DataStack extends Stack {
  readonly network: Network;
  /** What every verification of a backup has found. */
  readonly evidence: s3.Bucket;

  constructor(scope: Construct, id: string, { config, ...props }: DataStackProps) {
    super(scope, id, { ...props, terminationProtection: true });
    const databases = Object.entries(config.databases);
    this.network = new Network(this, 'Network', { zones: [...new Set(databases.map(([, each]) => each.zone))].sort() });
    for (const [name, database] of databases) this.#addVolume(name, database);
    this.evidence = new s3.Bucket(this, 'Evidence', {
      encryption: s3.BucketEncryption.S3_MANAGED,
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      versioned: true,
      lifecycleRules: [{ expiration: Duration.days(EVIDENCE_DAYS), noncurrentVersionExpiration: Duration.days(30) }],
      removalPolicy: RemovalPolicy.RETAIN,
    });
    Validations.of(this.evidence).acknowledge({
      id: 'AwsSolutions-S1',
      reason:
        'One workflow writes here once a night, and its history says so; a log of that would need a bucket itself.',
    });
  }

  #addVolume(name: string, database: DatabaseConfig): void {
    const volume = new ec2.CfnVolume(this, `Volume-${name}`, {
      availabilityZone: database.zone,
      size: database.volumeGiB,
      volumeType: 'gp3',
      encrypted: true,
    });
    volume.cfnOptions.deletionPolicy = CfnDeletionPolicy.RETAIN;
    volume.cfnOptions.updateReplacePolicy = CfnDeletionPolicy.RETAIN;
    Validations.of(volume).acknowledge({
      id: 'CloudFormation-Validate::W3010',
      reason: 'The zone is configuration: the volume must not move to another one when AWS lists its zones anew.',
    });
    Tags.of(volume).add('Name', `keeper ${name}`);
    Tags.of(volume).add(DATABASE_TAG, name);
    Tags.of(volume).add(ROLE_TAG, 'data');
    // Removed once a database has been verified on it. A host formats a volume only when this tag says so and the device
    // holds nothing.
    Tags.of(volume).add(BLANK_TAG, 'true');

    this.#addParameter(`LiveVolume-${name}`, {
      name: `/keeper/${name}/volume-id`,
      value: volume.ref,
      description: `The live data volume of ${name}; its history is the audit trail.`,
    });
    // A deployment that changes one of these writes that one anew, and leaves what runbooks have recorded in the others.
    const spec = {
      'instance-types': database.instanceTypes.join(','),
      image: database.image,
      ami: 'of-the-launch-template',
    };
    for (const [field, value] of Object.entries(spec)) {
      this.#addParameter(`Host-${name}-${field}`, {
        name: `/keeper/${name}/host/${field}`,
        value,
        description: `What hosts of ${name} are made of: as configured, or as the last planned move has proven.`,
      });
    }
  }

  #addParameter(id: string, props: Omit<ssm.CfnParameterProps, 'type'>): void {
    const parameter = new ssm.CfnParameter(this, id, { ...props, type: 'String' });
    parameter.cfnOptions.deletionPolicy = CfnDeletionPolicy.RETAIN;
    parameter.cfnOptions.updateReplacePolicy = CfnDeletionPolicy.RETAIN;
  }
}
