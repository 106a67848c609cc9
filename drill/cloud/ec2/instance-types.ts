import { invalidParameter } from './errors.ts';

export type Architecture = 'arm64' | 'x86_64';

export interface InstanceType {
  readonly architecture: Architecture;
  readonly vCpus: number;
  readonly memoryMiB: number;
  /** Private IPv4 addresses for each network interface, the primary one included. */
  readonly ipv4PerInterface: number;
  /** us-east-1, Linux. Only the order of the prices matters here: it decides which pool a fleet takes first. */
  readonly usdPerHour: number;
}

const arm = (vCpus: number, memoryGiB: number, ipv4PerInterface: number, usdPerHour: number): InstanceType => ({
  architecture: 'arm64',
  vCpus,
  memoryMiB: memoryGiB * 1024,
  ipv4PerInterface,
  usdPerHour,
});

const x86 = (vCpus: number, memoryGiB: number, ipv4PerInterface: number, usdPerHour: number): InstanceType => ({
  ...arm(vCpus, memoryGiB, ipv4PerInterface, usdPerHour),
  architecture: 'x86_64',
});

/**
 * Sizes and address limits: the instance type pages of the EC2 documentation. Prices: AWS price lists as collected by
 * aws/karpenter-provider-aws (zz_generated.pricing_aws.go).
 */
export const INSTANCE_TYPES: Readonly<Record<string, InstanceType>> = {
  't4g.nano': arm(2, 0.5, 2, 0.0042),
  't4g.micro': arm(2, 1, 2, 0.0084),
  't4g.small': arm(2, 2, 4, 0.0168),
  't4g.medium': arm(2, 4, 6, 0.0336),
  't4g.large': arm(2, 8, 12, 0.0672),
  't4g.xlarge': arm(4, 16, 15, 0.1344),
  'c6g.medium': arm(1, 2, 4, 0.034),
  'c6g.large': arm(2, 4, 10, 0.068),
  'c6gd.medium': arm(1, 2, 4, 0.0384),
  'c7g.medium': arm(1, 2, 4, 0.0363),
  'c7g.large': arm(2, 4, 10, 0.0725),
  'm6g.medium': arm(1, 4, 4, 0.0385),
  'm6g.large': arm(2, 8, 10, 0.077),
  'm6gd.medium': arm(1, 4, 4, 0.0452),
  'm7g.medium': arm(1, 4, 4, 0.0408),
  'm7g.large': arm(2, 8, 10, 0.0816),
  'r6g.medium': arm(1, 8, 4, 0.0504),
  'r6g.large': arm(2, 16, 10, 0.1008),
  'r6gd.medium': arm(1, 8, 4, 0.0576),
  'r7g.medium': arm(1, 8, 4, 0.0536),
  'r7g.large': arm(2, 16, 10, 0.1071),
  'c8g.medium': arm(1, 2, 4, 0.0399),
  'm8g.medium': arm(1, 4, 4, 0.0449),
  'r8g.medium': arm(1, 8, 4, 0.0589),
  't3.micro': x86(2, 1, 2, 0.0104),
  't3.small': x86(2, 2, 4, 0.0208),
  't3.medium': x86(2, 4, 6, 0.0416),
  't3a.small': x86(2, 2, 4, 0.0188),
  't3a.medium': x86(2, 4, 6, 0.0376),
};

/**
 * @throws AwsError InvalidParameterValue for a type that is not in {@link INSTANCE_TYPES}
 */
export function instanceType(name: string): InstanceType {
  const type = INSTANCE_TYPES[name];
  if (!type) throw invalidParameter(`Invalid value '${name}' for InstanceType.`);
  return type;
}
