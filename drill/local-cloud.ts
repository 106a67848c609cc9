import type { Clock } from './cloud/clock.ts';
import { CloudFormation, type DeployedStack } from './cloud/cloudformation.ts';
import { CloudWatch } from './cloud/cloudwatch.ts';
import { customResourceHandler } from './cloud/custom-resource.ts';
import { Ec2 } from './cloud/ec2/ec2.ts';
import { EventBridge } from './cloud/events.ts';
import { Iam } from './cloud/iam.ts';
import { Cloud, type Faults } from './cloud/kernel.ts';
import { LambdaService } from './cloud/lambda.ts';
import { Logs } from './cloud/logs.ts';
import { S3 } from './cloud/s3.ts';
import { Sns } from './cloud/sns.ts';
import { Sqs } from './cloud/sqs.ts';
import { Ssm } from './cloud/ssm.ts';
import { StepFunctions } from './cloud/states/step-functions.ts';
import { Endpoint } from './cloud/wire/endpoint.ts';
import type { HostRuntime } from './hosts/host.ts';

export interface LocalCloudOptions<Runtime extends HostRuntime> {
  readonly clock: Clock;
  readonly seed: number;
  readonly faults?: Faults;
  /** Makes the hosts: real ones or modelled ones. */
  readonly hosts: (cloud: Cloud, endpoint: Endpoint) => Promise<Runtime> | Runtime;
}

/** All services of the local cloud, put together, and the app deployed into it. */
export interface LocalCloud<Runtime extends HostRuntime> {
  readonly cloud: Cloud;
  readonly hosts: Runtime;
  readonly endpoint: Endpoint;
  readonly ec2: Ec2;
  readonly ssm: Ssm;
  readonly states: StepFunctions;
  readonly lambda: LambdaService;
  readonly events: EventBridge;
  readonly iam: Iam;
  readonly sns: Sns;
  readonly sqs: Sqs;
  readonly s3: S3;
  readonly cloudwatch: CloudWatch;
  readonly formation: CloudFormation;
  /** AWS publishes a newer Amazon Linux 2023 for ARM: from now on the public parameter names this AMI. */
  publishImage(imageId: string): void;
  /** @param assembly the folder that `cdk synth` wrote */
  deploy(assembly: string): Promise<DeployedStack[]>;
}

/** The AMI that the public parameter names; its root device is Amazon Linux 2023's, for ARM. */
const IMAGE = { rootDeviceName: '/dev/xvda', rootGiB: 8, architecture: 'arm64' } as const;
const IMAGE_PARAMETER = '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64';

/** Puts the local cloud together. Nothing is deployed yet. */
export async function createLocalCloud<Runtime extends HostRuntime>(
  options: LocalCloudOptions<Runtime>,
): Promise<LocalCloud<Runtime>> {
  const { clock, seed, faults } = options;
  const cloud = new Cloud({ clock, seed, ...(faults && { faults }) });
  const iam = new Iam(cloud);
  cloud.authorizer = iam;
  const endpoint = new Endpoint(cloud);
  const hosts = await options.hosts(cloud, endpoint);
  const ec2 = new Ec2(cloud, hosts);
  ec2.resolveInstanceProfile = (nameOrArn) => iam.roleOfInstanceProfile(nameOrArn);
  const runningSince = new Map<string, number>();
  cloud.onHappening(({ kind, subject, at, detail }) => {
    if (kind === 'instance-state' && detail['state'] === 'running') runningSince.set(subject, at);
  });
  const ssm = new Ssm(cloud, (instanceId) => {
    const machine = ec2.machine(instanceId);
    return (
      machine && {
        host: machine.host,
        tags: Object.fromEntries(machine.tags),
        state: machine.state,
        roleArn: machine.identity.roleArn,
        runningSince: runningSince.get(instanceId) ?? 0,
      }
    );
  });
  ec2.registerImage({ imageId: ssm.parameterValue(IMAGE_PARAMETER), ...IMAGE });
  const assume = iam.assume.bind(iam);
  const lambda = new LambdaService(cloud, { endpoint, assume });
  const mayInvoke = lambda.mayInvoke.bind(lambda);
  const states = new StepFunctions(cloud);
  const sqs = new Sqs(cloud, iam);
  const queueUrl = (arn: string) => sqs.urlOf(arn);
  const sns = new Sns(cloud, { policies: iam, mayInvoke, queueUrl });
  const events = new EventBridge(cloud, { mayInvoke, assume, queueUrl });
  const s3 = new S3(cloud, iam);
  const logs = new Logs(cloud);
  const cloudwatch = new CloudWatch(cloud);
  for (const service of [ec2, ssm, states]) cloud.register(service);
  const handlers = Object.assign(
    {},
    ...[iam, ec2, ssm, states, lambda, events, sns, sqs, s3, logs, cloudwatch].map((each) => each.handlers),
  );
  handlers['AWS::CloudFormation::CustomResource'] = customResourceHandler(cloud, endpoint, iam.administrator);
  const formation = new CloudFormation(cloud, handlers, { resolveSsmParameter: (name) => ssm.parameterValue(name) });
  return {
    cloud,
    hosts,
    endpoint,
    ec2,
    ssm,
    states,
    lambda,
    events,
    iam,
    sns,
    sqs,
    s3,
    cloudwatch,
    formation,
    publishImage: (imageId) => {
      ec2.registerImage({ imageId, ...IMAGE });
      ssm.publishParameter(IMAGE_PARAMETER, imageId);
    },
    deploy: (assembly) => formation.deploy(assembly),
  };
}
