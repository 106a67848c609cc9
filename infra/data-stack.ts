import { CfnDeletionPolicy, Stack, type StackProps, Tags, Validations } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import type { Construct } from 'constructs';
import type { HostSpec } from '../functions/core/host-spec.ts';
import { BLANK_TAG, DATABASE_TAG, ROLE_TAG } from '../functions/core/tags.ts';
import type { DatabaseConfig, KeeperConfig } from './config.ts';
import { Network } from './network.ts';

export interface DataStackProps extends StackProps {
  readonly config: KeeperConfig;
}

/** What must outlive everything else: the network with the databases' addresses, and the data volumes. */
export class DataStack extends Stack {
  readonly network: Network;

  constructor(scope: Construct, id: string, { config, ...props }: DataStackProps) {
    super(scope, id, { ...props, terminationProtection: true });
    const databases = Object.entries(config.databases);
    this.network = new Network(this, 'Network', { zones: [...new Set(databases.map(([, each]) => each.zone))].sort() });
    for (const [name, database] of databases) this.#addVolume(name, database);
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
    const host: HostSpec = { instanceTypes: database.instanceTypes, image: database.image };
    // A deployment that changes the configuration writes it anew; one that does not leaves what a runbook has recorded.
    this.#addParameter(`Host-${name}`, {
      name: `/keeper/${name}/host`,
      value: JSON.stringify(host),
      description: `What hosts of ${name} are made of: as configured, and since then as the last planned move has proven.`,
    });
  }

  #addParameter(id: string, props: Omit<ssm.CfnParameterProps, 'type'>): void {
    const parameter = new ssm.CfnParameter(this, id, { ...props, type: 'String' });
    parameter.cfnOptions.deletionPolicy = CfnDeletionPolicy.RETAIN;
    parameter.cfnOptions.updateReplacePolicy = CfnDeletionPolicy.RETAIN;
  }
}
