import { join } from 'node:path';
import { type Cloud, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import type { StackContext } from '../resource.ts';

/** A function as it was deployed. */
export interface FunctionConfiguration {
  readonly name: string;
  readonly arn: string;
  readonly role: string;
  /** Absolute path of the bundle. */
  readonly file: string;
  /** The name that the bundle exports the handler by. */
  readonly handler: string;
  readonly architecture: 'arm64' | 'x64';
  readonly memoryMiB: number;
  readonly timeoutSeconds: number;
  /** The function's own variables and those that Lambda adds, without credentials. */
  readonly environment: Readonly<Record<string, string>>;
  readonly logGroup: string;
  /** ARN of the queue or topic for events that could not be processed. */
  readonly deadLetterTarget: string | undefined;
}

const KNOWN = [
  'FunctionName',
  'Code',
  'Handler',
  'Role',
  'Runtime',
  'Architectures',
  'MemorySize',
  'Timeout',
  'Environment',
  'Description',
  'Tags',
  'LoggingConfig',
  'PackageType',
  'DeadLetterConfig',
];

/**
 * Reads the properties of an AWS::Lambda::Function.
 * @throws NotModelled for properties and values that the model does not honour
 */
export function readFunction(
  cloud: Cloud,
  logicalId: string,
  properties: Shape,
  stack: StackContext,
): FunctionConfiguration {
  onlyKnown('AWS::Lambda::Function', properties, KNOWN);
  onlyKnown('AWS::Lambda::Function Code', properties.Code, ['S3Bucket', 'S3Key']);
  onlyKnown('AWS::Lambda::Function LoggingConfig', properties.LoggingConfig, ['LogGroup', 'LogFormat']);
  const {
    Runtime: runtime,
    Handler: handler,
    PackageType: packageType = 'Zip',
    Architectures: architectures,
  } = properties;
  if (runtime !== 'nodejs24.x') throw new NotModelled(`the Lambda runtime ${runtime}`);
  if (packageType !== 'Zip') throw new NotModelled(`the Lambda package type ${packageType}`);
  if (!stack.assetPath) throw new NotModelled(`${logicalId}: a Lambda function without a bundled asset`);
  const [, file, exportName] = /^([\w/-]+)\.(\w+)$/.exec(handler) ?? [];
  if (!file || !exportName) throw new NotModelled(`the Lambda handler ${handler}`);
  const name: string = properties.FunctionName ?? stack.physicalName(logicalId);
  const memoryMiB = Number(properties.MemorySize ?? 128);
  const logGroup: string = properties.LoggingConfig?.LogGroup ?? `/aws/lambda/${name}`;
  return {
    name,
    arn: cloud.arn('lambda', `function:${name}`),
    role: properties.Role,
    file: join(stack.assetPath, `${file}.js`),
    handler: exportName,
    architecture: architectures?.[0] === 'arm64' ? 'arm64' : 'x64',
    memoryMiB,
    timeoutSeconds: Number(properties.Timeout ?? 3),
    // @see docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    environment: {
      ...properties.Environment?.Variables,
      _HANDLER: handler,
      AWS_DEFAULT_REGION: cloud.region,
      AWS_EXECUTION_ENV: `AWS_Lambda_${runtime}`,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMiB),
      AWS_LAMBDA_FUNCTION_NAME: name,
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_LAMBDA_LOG_FORMAT: properties.LoggingConfig?.LogFormat ?? 'Text',
      AWS_LAMBDA_LOG_GROUP_NAME: logGroup,
      AWS_REGION: cloud.region,
      LAMBDA_RUNTIME_DIR: '/var/runtime',
      LAMBDA_TASK_ROOT: '/var/task',
      LANG: 'en_US.UTF-8',
      PATH: '/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin',
      TZ: ':UTC',
    },
    logGroup,
    deadLetterTarget: readDeadLetterTarget(properties.DeadLetterConfig),
  };
}

function readDeadLetterTarget(config: Shape): string | undefined {
  onlyKnown('AWS::Lambda::Function DeadLetterConfig', config, ['TargetArn']);
  return config?.TargetArn;
}
