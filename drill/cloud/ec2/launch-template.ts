import { Buffer } from 'node:buffer';
import { gunzipSync } from 'node:zlib';
import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import { invalidParameter, templateVersionNotFound } from './errors.ts';
import type { LaunchTemplate, Tags } from './records.ts';
import { parseTagSpecifications } from './tags.ts';

/** Launch template data, checked: everything in it is honoured by the model. */
export interface LaunchTemplateData {
  /** As it was given, for DescribeLaunchTemplateVersions. */
  readonly given: Shape;
  readonly imageId: string | undefined;
  readonly instanceType: string | undefined;
  /** Name or ARN. */
  readonly instanceProfile: string | undefined;
  readonly keyName: string | undefined;
  /** base64 */
  readonly userData: string | undefined;
  readonly subnetId: string | undefined;
  readonly securityGroups: readonly string[];
  /** Undefined: as the subnet says. */
  readonly associatePublicIp: boolean | undefined;
  readonly metadataOptions: Shape;
  readonly monitoring: boolean;
  readonly ebsOptimized: boolean;
  readonly cpuCredits: string | undefined;
  readonly marketType: string | undefined;
  /** What becomes of an instance whose guest powers itself off. */
  readonly shutdownBehavior: 'stop' | 'terminate';
  readonly root: RootVolumeOptions | undefined;
  readonly tags: ReadonlyMap<string, Tags>;
}

export interface RootVolumeOptions {
  readonly device: string;
  readonly sizeGiB: number | undefined;
  readonly type: string | undefined;
  readonly iops: number | undefined;
  readonly throughput: number | undefined;
  readonly encrypted: boolean;
}

/** docs: "User data is limited to 16 KB, in raw form, before it is base64-encoded." */
const MAX_USER_DATA_BYTES = 16 * 1024;

/** The resource types that a launch template can tag. */
const TAGGABLE = ['instance', 'volume', 'network-interface', 'spot-instances-request'];

/**
 * @param given RequestLaunchTemplateData, as in the API and in AWS::EC2::LaunchTemplate
 * @throws NotModelled for what the model does not honour
 */
export function parseLaunchTemplateData(given: Shape): LaunchTemplateData {
  onlyKnown('LaunchTemplateData', given, [
    'ImageId',
    'InstanceType',
    'IamInstanceProfile',
    'KeyName',
    'UserData',
    'NetworkInterfaces',
    'SecurityGroupIds',
    'MetadataOptions',
    'Monitoring',
    'EbsOptimized',
    'CreditSpecification',
    'InstanceInitiatedShutdownBehavior',
    'InstanceMarketOptions',
    'BlockDeviceMappings',
    'TagSpecifications',
  ]);
  onlyKnown('IamInstanceProfile', given.IamInstanceProfile, ['Arn', 'Name']);
  onlyKnown('MetadataOptions', given.MetadataOptions, [
    'HttpTokens',
    'HttpEndpoint',
    'HttpPutResponseHopLimit',
    'HttpProtocolIpv6',
    'InstanceMetadataTags',
  ]);
  onlyKnown('Monitoring', given.Monitoring, ['Enabled']);
  onlyKnown('CreditSpecification', given.CreditSpecification, ['CpuCredits']);
  if (!['terminate', 'stop', undefined].includes(given.InstanceInitiatedShutdownBehavior))
    throw invalidParameter(`Value (${given.InstanceInitiatedShutdownBehavior}) for instanceInitiatedShutdownBehavior.`);
  const tags = parseTagSpecifications(given.TagSpecifications);
  for (const type of tags.keys()) {
    if (!TAGGABLE.includes(type)) throw new NotModelled(`LaunchTemplateData.TagSpecifications: ${type}`);
  }
  if (given.UserData !== undefined) decodeUserData(given.UserData);
  const networkInterface = parseNetworkInterface(given.NetworkInterfaces);
  if (networkInterface && given.SecurityGroupIds)
    throw new AwsError(
      'InvalidParameterCombination',
      'Network interfaces and an instance-level security groups may not be specified on the same request',
    );
  return {
    given: structuredClone(given),
    imageId: given.ImageId,
    instanceType: given.InstanceType,
    instanceProfile: given.IamInstanceProfile?.Arn ?? given.IamInstanceProfile?.Name,
    keyName: given.KeyName,
    userData: given.UserData,
    subnetId: networkInterface?.SubnetId,
    securityGroups: networkInterface?.Groups ?? given.SecurityGroupIds ?? [],
    associatePublicIp: networkInterface?.AssociatePublicIpAddress,
    metadataOptions: given.MetadataOptions ?? {},
    monitoring: given.Monitoring?.Enabled ?? false,
    ebsOptimized: given.EbsOptimized ?? false,
    cpuCredits: given.CreditSpecification?.CpuCredits,
    marketType: given.InstanceMarketOptions?.MarketType,
    shutdownBehavior: given.InstanceInitiatedShutdownBehavior ?? 'stop',
    root: parseRootVolume(given.BlockDeviceMappings),
    tags,
  };
}

function parseNetworkInterface(list: Shape): Shape | undefined {
  if (!list) return undefined;
  const [networkInterface, ...others] = list;
  if (others.length > 0) throw new NotModelled('LaunchTemplateData.NetworkInterfaces: more than one');
  onlyKnown('LaunchTemplateData.NetworkInterfaces', networkInterface, [
    'DeviceIndex',
    'Groups',
    'SubnetId',
    'AssociatePublicIpAddress',
    'DeleteOnTermination',
  ]);
  if (networkInterface.DeviceIndex !== 0) throw invalidParameter('A primary network interface has device index 0.');
  if (networkInterface.DeleteOnTermination === false)
    throw new NotModelled('a primary network interface that outlives its instance');
  return networkInterface;
}

function parseRootVolume(mappings: Shape): RootVolumeOptions | undefined {
  if (!mappings) return undefined;
  const [mapping, ...others] = mappings;
  if (others.length > 0) throw new NotModelled('LaunchTemplateData.BlockDeviceMappings: other devices than the root');
  onlyKnown('BlockDeviceMappings', mapping, ['DeviceName', 'Ebs']);
  onlyKnown('BlockDeviceMappings.Ebs', mapping.Ebs, [
    'DeleteOnTermination',
    'Encrypted',
    'Iops',
    'Throughput',
    'VolumeSize',
    'VolumeType',
  ]);
  if (mapping.Ebs?.DeleteOnTermination === false) throw new NotModelled('a root volume that outlives its instance');
  return {
    device: mapping.DeviceName,
    sizeGiB: mapping.Ebs?.VolumeSize,
    type: mapping.Ebs?.VolumeType,
    iops: mapping.Ebs?.Iops,
    throughput: mapping.Ebs?.Throughput,
    encrypted: mapping.Ebs?.Encrypted ?? false,
  };
}

/**
 * @param base64 user data as in a request
 * @throws AwsError when it is not base64, or longer than 16 KB in raw form
 */
export function decodeUserData(base64: string): string {
  const raw = Buffer.from(base64, 'base64');
  if (raw.toString('base64') !== base64.replaceAll(/\s/g, ''))
    throw new AwsError('InvalidUserData.Malformed', 'Invalid BASE64 encoding of user data.');
  if (raw.length > MAX_USER_DATA_BYTES) throw invalidParameter(`User data is limited to ${MAX_USER_DATA_BYTES} bytes`);
  // cloud-init uncompresses what begins as gzip does (docs.cloud-init.io, user-data formats).
  const isGzip = raw[0] === 0x1f && raw[1] === 0x8b;
  return (isGzip ? gunzipSync(raw) : raw).toString('utf8');
}

/**
 * @param version a number, `$Latest` or `$Default`
 * @throws AwsError InvalidLaunchTemplateId.VersionNotFound
 */
export function templateVersion(
  template: LaunchTemplate,
  version: string,
): { readonly number: number; readonly data: LaunchTemplateData } {
  // CloudFormation never moves the default version, and nothing else makes launch templates here.
  const number = version === '$Latest' ? template.versions.length : version === '$Default' ? 1 : Number(version);
  const found = template.versions[number - 1];
  if (!found) throw templateVersionNotFound(template.id, version);
  return { number, data: found.data };
}

/** One version, as DescribeLaunchTemplateVersions shows it. */
export function renderVersion(template: LaunchTemplate, number: number): Shape {
  const version = template.versions[number - 1];
  return {
    LaunchTemplateId: template.id,
    LaunchTemplateName: template.name,
    VersionNumber: number,
    VersionDescription: version?.description,
    CreateTime: version?.createTime,
    DefaultVersion: number === 1,
    LaunchTemplateData: structuredClone(version?.data.given),
  };
}
