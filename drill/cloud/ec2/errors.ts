import { AwsError } from '../kernel.ts';

// Codes: docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. Wording as EC2 answers, where it is known.

export const instanceNotFound = (id: string) =>
  new AwsError('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);

export const volumeNotFound = (id: string) =>
  new AwsError('InvalidVolume.NotFound', `The volume '${id}' does not exist.`);

/** Also the answer for a volume that exists and was never modified. */
export const modificationNotFound = (id: string) =>
  new AwsError('InvalidVolumeModification.NotFound', `Modification for volume '${id}' does not exist.`);

export const snapshotNotFound = (id: string) =>
  new AwsError('InvalidSnapshot.NotFound', `The snapshot '${id}' does not exist.`);

/** Seen in answers of CreateVolume: github.com/tschellenbach/Snaptastic/issues/17 */
export const snapshotNotCompleted = (id: string) => incorrectState(`Snapshot '${id}' is not 'completed'.`);

export const interfaceNotFound = (id: string) =>
  new AwsError('InvalidNetworkInterfaceID.NotFound', `The networkInterface ID '${id}' does not exist`);

export const subnetNotFound = (id: string) =>
  new AwsError('InvalidSubnetID.NotFound', `The subnet ID '${id}' does not exist`);

export const templateNotFound = (id: string) =>
  new AwsError(
    'InvalidLaunchTemplateId.NotFound',
    `The specified launch template, with template ID ${id}, does not exist.`,
  );

export const templateVersionNotFound = (id: string, version: string) =>
  new AwsError(
    'InvalidLaunchTemplateId.VersionNotFound',
    `Could not find the specified version ${version} for the launch template with ID ${id}.`,
  );

export const imageNotFound = (id: string) =>
  new AwsError('InvalidAMIID.NotFound', `The image id '[${id}]' does not exist`);

export const invalidInstanceType = (names: readonly string[]) =>
  new AwsError('InvalidInstanceType', `The following supplied instance types do not exist: [${names.join(', ')}]`);

export const architectureMismatch = (ofType: string, ofImage: string) =>
  invalidParameter(
    `The architecture '${ofType}' of the specified instance type does not match the architecture '${ofImage}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.`,
  );

/** A 500, which the SDKs repeat as any other. */
export const insufficientCapacity = (type: string, zone: string) =>
  new AwsError(
    'InsufficientInstanceCapacity',
    `We currently do not have sufficient ${type} capacity in the Availability Zone you requested (${zone}). Our system will be working on provisioning additional capacity.`,
    500,
  );

/** The text of an error whose code depends on the request. */
export const notOffered = (type: string, zone: string) =>
  `Your requested instance type (${type}) is not supported in your requested Availability Zone (${zone}).`;

export const incorrectState = (message: string) => new AwsError('IncorrectState', message);

export const invalidParameter = (message: string) => new AwsError('InvalidParameterValue', message);

export const missingParameter = (name: string) =>
  new AwsError('MissingParameter', `The request must contain the parameter ${name}`);

export const dependencyViolation = (what: string, id: string) =>
  new AwsError('DependencyViolation', `The ${what} '${id}' has dependencies and cannot be deleted.`);
