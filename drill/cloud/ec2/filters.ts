import { NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import { invalidParameter } from './errors.ts';

/** The values that one filter of a Describe call compares with, for one resource as Describe shows it. */
export type FilterFields = Readonly<Record<string, (shape: Shape) => readonly (string | undefined)[]>>;

export const INSTANCE_FILTERS: FilterFields = {
  'instance-id': (i) => [i.InstanceId],
  'instance-state-name': (i) => [i.State.Name],
  'instance-state-code': (i) => [String(i.State.Code)],
  'instance-type': (i) => [i.InstanceType],
  'instance-lifecycle': (i) => [i.InstanceLifecycle],
  'availability-zone': (i) => [i.Placement.AvailabilityZone],
  'subnet-id': (i) => [i.SubnetId],
  'vpc-id': (i) => [i.VpcId],
  'image-id': (i) => [i.ImageId],
  'client-token': (i) => [i.ClientToken],
  'private-ip-address': (i) => [i.PrivateIpAddress],
  'block-device-mapping.volume-id': (i) => i.BlockDeviceMappings.map((mapping: Shape) => mapping.Ebs.VolumeId),
  'network-interface.network-interface-id': (i) => i.NetworkInterfaces.map((eni: Shape) => eni.NetworkInterfaceId),
  'network-interface.addresses.private-ip-address': (i) =>
    i.NetworkInterfaces.flatMap((eni: Shape) => eni.PrivateIpAddresses.map((one: Shape) => one.PrivateIpAddress)),
};

export const VOLUME_FILTERS: FilterFields = {
  'volume-id': (v) => [v.VolumeId],
  status: (v) => [v.State],
  'availability-zone': (v) => [v.AvailabilityZone],
  'snapshot-id': (v) => [v.SnapshotId],
  'attachment.instance-id': (v) => v.Attachments.map((one: Shape) => one.InstanceId),
  'attachment.status': (v) => v.Attachments.map((one: Shape) => one.State),
  'attachment.device': (v) => v.Attachments.map((one: Shape) => one.Device),
};

export const MODIFICATION_FILTERS: FilterFields = {
  'volume-id': (m) => [m.VolumeId],
  'modification-state': (m) => [m.ModificationState],
};

export const SNAPSHOT_FILTERS: FilterFields = {
  'snapshot-id': (s) => [s.SnapshotId],
  'volume-id': (s) => [s.VolumeId],
  status: (s) => [s.State],
};

export const INSTANCE_STATUS_FILTERS: FilterFields = {
  'instance-state-name': (s) => [s.InstanceState.Name],
  'instance-status.status': (s) => [s.InstanceStatus.Status],
  'system-status.status': (s) => [s.SystemStatus.Status],
};

export const INSTANCE_TYPE_FILTERS: FilterFields = { 'instance-type': (type) => [type.InstanceType] };

export const OFFERING_FILTERS: FilterFields = {
  'instance-type': (offering) => [offering.InstanceType],
  location: (offering) => [offering.Location],
};

/**
 * Whether a resource passes all filters; one filter passes when any of its values matches.
 * @throws NotModelled for a filter that the model does not know
 */
export function matches(shape: Shape, filters: Shape, fields: FilterFields): boolean {
  return (filters ?? []).every((filter: Shape) => {
    onlyKnown('Filters', filter, ['Name', 'Values']);
    const found = filterValues(shape, filter.Name, fields);
    const patterns: RegExp[] = (filter.Values ?? []).map(wildcard);
    return found.some((value) => value !== undefined && patterns.some((pattern) => pattern.test(value)));
  });
}

function filterValues(shape: Shape, name: string, fields: FilterFields): readonly (string | undefined)[] {
  const tags: Shape[] = shape.Tags ?? [];
  if (name === 'tag-key') return tags.map((tag) => tag.Key);
  if (name.startsWith('tag:')) return tags.filter((tag) => tag.Key === name.slice(4)).map((tag) => tag.Value);
  const field = fields[name];
  if (!field) throw new NotModelled(`the filter ${name}`);
  return field(shape);
}

/** docs: "You can use wildcards with the filter values": * for zero or more characters, ? for one */
function wildcard(value: string): RegExp {
  const escaped = value.replaceAll(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 's');
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly NextToken: string | undefined;
}

/**
 * One page of a listing. Filters apply to the page afterwards, so a page can be empty and still have a next one, as
 * AWS warns.
 * @param idOf what the token remembers: the last resource of the page before
 */
export function paginate<T>(all: readonly T[], input: Shape, idOf: (item: T) => string, least: number): Page<T> {
  const { MaxResults: size, NextToken: token } = input;
  if (size !== undefined && (size < least || size > 1000))
    throw invalidParameter(
      `Value ( ${size} ) for parameter maxResults is invalid. Expecting a value greater than ${least}.`,
    );
  const last = token === undefined ? undefined : Buffer.from(token, 'base64url').toString();
  const start = last === undefined ? 0 : all.findIndex((item) => idOf(item) === last) + 1;
  if (last !== undefined && start === 0) throw invalidParameter('The pagination token is invalid.');
  const items = size === undefined ? all.slice(start) : all.slice(start, start + size);
  const end = items.at(-1);
  const more = end !== undefined && start + items.length < all.length;
  return { items, NextToken: more ? Buffer.from(idOf(end)).toString('base64url') : undefined };
}
