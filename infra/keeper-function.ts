import { type Duration, RemovalPolicy } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';

export interface KeeperFunctionProps {
  /** What it is for, in the console. */
  readonly description: string;
  readonly timeout: Duration;
  /** One policy a capability; the key becomes the policy's name. */
  readonly may: Readonly<Record<string, readonly iam.PolicyStatement[]>>;
  readonly environment?: Readonly<Record<string, string>>;
}

const FUNCTIONS = new URL('../functions/', import.meta.url).pathname;
const LOCKFILE = new URL('../package-lock.json', import.meta.url).pathname;

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
    new iam.Policy(this, 'write-logs', {
      roles: [this.role],
      statements: [
        new iam.PolicyStatement({
          actions: ['logs:CreateLogStream', 'logs:PutLogEvents'],
          resources: [logGroup.logGroupArn],
        }),
      ],
    });
    const policies = Object.entries(props.may).map(
      ([capability, statements]) =>
        new iam.Policy(this, capability, { roles: [this.role], statements: [...statements] }),
    );
    this.lambda = new NodejsFunction(this, 'Function', {
      description: props.description,
      entry: `${FUNCTIONS}${name}/index.ts`,
      depsLockFilePath: LOCKFILE,
      runtime: lambda.Runtime.NODEJS_24_X,
      architecture: lambda.Architecture.ARM_64,
      // CPU comes with memory, and a cold start is CPU: 512 MB halves it against 256 MB for the same money.
      memorySize: 512,
      timeout: props.timeout,
      role: this.role.withoutPolicyUpdates(),
      logGroup,
      environment: { ...props.environment },
      awsSdkConnectionReuse: false, // a setting of SDK v2
      bundling: {
        format: OutputFormat.CJS,
        target: 'node24',
        minify: true,
        // The SDK is pinned with the rest, and module-first halves its size and load time. @see docs/adr
        externalModules: [],
        mainFields: ['module', 'main'],
      },
    });
    this.lambda.node.addDependency(...policies);
  }
}
