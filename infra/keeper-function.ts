import { execFileSync } from 'node:child_process';
import { AssetHashType, DockerImage, type Duration, RemovalPolicy } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as destinations from 'aws-cdk-lib/aws-lambda-destinations';
import * as logs from 'aws-cdk-lib/aws-logs';
import type * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { grant, type Permission } from '../workflows/permission.ts';

export interface KeeperFunctionProps {
  /** What it is for, in the console. */
  readonly description: string;
  readonly timeout: Duration;
  /** One policy a capability; the key becomes the policy's name. */
  readonly may: Readonly<Record<string, readonly Permission[]>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Where an event is kept on which the function has failed three times; for functions that nobody waits for. */
  readonly undelivered?: sqs.IQueue;
}

const FUNCTIONS = new URL('../functions/', import.meta.url).pathname;
const BUNDLE = new URL('bundle.ts', import.meta.url).pathname;

/** One of functions/: its bundle, its role with nothing but the named capabilities, and its log group. */
export class KeeperFunction extends Construct {
  readonly lambda: lambda.IFunction;
  readonly role: iam.Role;

  /** @param name the folder under functions/ */
  constructor(scope: Construct, name: string, props: KeeperFunctionProps) {
    super(scope, name);
    const logGroup = new logs.LogGroup(this, 'Logs', {
      retention: logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    this.role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') });
    grant(this, 'write-logs', this.role, [
      { actions: ['logs:CreateLogStream', 'logs:PutLogEvents'], resources: [logGroup.logGroupArn] },
    ]);
    const { undelivered } = props;
    const keep: Record<string, Permission[]> = undelivered
      ? { 'keep-undelivered': [{ actions: ['sqs:SendMessage'], resources: [undelivered.queueArn] }] }
      : {};
    const policies = Object.entries({ ...props.may, ...keep }).map(([capability, permissions]) =>
      grant(this, capability, this.role, permissions),
    );
    this.lambda = new lambda.Function(this, 'Function', {
      description: props.description,
      code: bundle(name),
      handler: 'index.handler',
      runtime: lambda.Runtime.NODEJS_24_X,
      architecture: lambda.Architecture.ARM_64,
      // CPU comes with memory, and a cold start is CPU: 512 MB halves it against 256 MB for the same money.
      memorySize: 512,
      timeout: props.timeout,
      role: this.role.withoutPolicyUpdates(),
      logGroup,
      environment: { ...props.environment },
      ...(undelivered && { onFailure: new destinations.SqsDestination(undelivered), retryAttempts: 2 }),
    });
    this.lambda.node.addDependency(...policies);
  }
}

/** What `NodejsFunction` would do, but it takes no plugins. */
function bundle(name: string): lambda.Code {
  return lambda.Code.fromAsset(`${FUNCTIONS}${name}`, {
    assetHashType: AssetHashType.OUTPUT,
    bundling: {
      image: DockerImage.fromRegistry('never used: the local bundling below always succeeds or throws'),
      local: {
        tryBundle: (output) => {
          execFileSync(process.execPath, [BUNDLE, `${FUNCTIONS}${name}/index.ts`, `${output}/index.js`], {
            stdio: ['ignore', 'inherit', 'inherit'],
          });
          return true;
        },
      },
    },
  });
}
