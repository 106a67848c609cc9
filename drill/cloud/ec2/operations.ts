import { AwsError, type Bucket, NotModelled, type Operation, onlyKnown, type Shape } from '../kernel.ts';
import type { Addresses } from './addresses.ts';
import type { Authorizations } from './authorization.ts';
import type { Capacity } from './capacity.ts';
import {
  insufficientCapacity,
  invalidInstanceType,
  invalidParameter,
  missingParameter,
  modificationNotFound,
  notOffered,
} from './errors.ts';
import {
  INSTANCE_FILTERS,
  INSTANCE_TYPE_FILTERS,
  MODIFICATION_FILTERS,
  matches,
  OFFERING_FILTERS,
  paginate,
  SNAPSHOT_FILTERS,
  VOLUME_FILTERS,
} from './filters.ts';
import type { Fleets } from './fleet.ts';
import { INSTANCE_TYPES, instanceType } from './instance-types.ts';
import type { Instances } from './instances.ts';
import { renderVersion, templateVersion } from './launch-template.ts';
import type { Modifications } from './modifications.ts';
import type { Instance, Tags, Volume } from './records.ts';
import { render } from './render.ts';
import type { Ec2State } from './state.ts';
import type { StatusChecks } from './status-checks.ts';
import { addTags, parseTagSpecifications, parseTags } from './tags.ts';
import type { Volumes } from './volumes.ts';

export interface Ec2Parts {
  readonly state: Ec2State;
  readonly volumes: Volumes;
  readonly modifications: Modifications;
  readonly addresses: Addresses;
  readonly instances: Instances;
  readonly statusChecks: StatusChecks;
  readonly fleets: Fleets;
  readonly capacity: Capacity;
  readonly authorizations: Authorizations;
}

// Buckets: docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
const MUTATING: Bucket = { name: 'ec2 mutating', capacity: 50, refillPerSecond: 5 };
const DESCRIBE: Bucket = { name: 'ec2 non-mutating', capacity: 100, refillPerSecond: 20 };
const UNFILTERED_DESCRIBE: Bucket = { name: 'ec2 unfiltered non-mutating', capacity: 50, refillPerSecond: 10 };
const TERMINATE: Bucket = { name: 'ec2 TerminateInstances', capacity: 100, refillPerSecond: 5 };
const START: Bucket = { name: 'ec2 StartInstances', capacity: 5, refillPerSecond: 2 };
const CREATE_STORAGE: Bucket = { name: 'ec2 CreateVolume, CreateSnapshot', capacity: 100, refillPerSecond: 5 };
const TAGGING: Bucket = { name: 'ec2 CreateTags', capacity: 100, refillPerSecond: 10 };

/** "Unfiltered and unpaginated" is a category of its own. */
const describeBucket =
  (ids: string) =>
  (input: Shape): Bucket =>
    input[ids]?.length || input.Filters?.length || input.MaxResults ? DESCRIBE : UNFILTERED_DESCRIBE;

/** The operations of EC2 and EBS, by name. */
export function ec2Operations(parts: Ec2Parts): Readonly<Record<string, Operation>> {
  return {
    ...instanceOperations(parts),
    ...volumeOperations(parts),
    ...snapshotOperations(parts),
    ...otherOperations(parts),
  };
}

function instanceOperations(parts: Ec2Parts) {
  const { state, instances, statusChecks, fleets, capacity, addresses, authorizations } = parts;
  return {
    CreateFleet: {
      latency: 'ec2.CreateFleet',
      bucket: MUTATING,
      authorize: (input) => authorizations.createFleet(fleets.plan(input)),
      invoke: (input) => fleets.create(input),
    },
    DescribeInstances: {
      bucket: describeBucket('InstanceIds'),
      authorize: () => authorizations.onAnything('ec2:DescribeInstances'),
      invoke: (input) => describeInstances(state, input),
    },
    DescribeInstanceStatus: {
      bucket: describeBucket('InstanceIds'),
      authorize: () => authorizations.onAnything('ec2:DescribeInstanceStatus'),
      invoke: (input) => statusChecks.describe(input),
    },
    TerminateInstances: {
      bucket: TERMINATE,
      authorize: (input) =>
        instancesOf(state, input).map((instance) => authorizations.onInstance('ec2:TerminateInstances', instance)),
      invoke(input) {
        onlyKnown('TerminateInstances', input, ['InstanceIds', 'SkipOsShutdown']);
        return {
          TerminatingInstances: instancesOf(state, input).map((instance) =>
            instances.terminate(instance, input.SkipOsShutdown ?? false),
          ),
        };
      },
    },
    StopInstances: {
      bucket: MUTATING,
      authorize: (input) =>
        instancesOf(state, input).map((instance) => authorizations.onInstance('ec2:StopInstances', instance)),
      invoke(input) {
        onlyKnown('StopInstances', input, ['InstanceIds', 'SkipOsShutdown']);
        const all = instancesOf(state, input);
        for (const instance of all) instances.refuseStop(instance);
        return { StoppingInstances: all.map((instance) => instances.stop(instance, input.SkipOsShutdown ?? false)) };
      },
    },
    StartInstances: {
      bucket: START,
      authorize: (input) =>
        instancesOf(state, input).map((instance) => authorizations.onInstance('ec2:StartInstances', instance)),
      invoke(input) {
        onlyKnown('StartInstances', input, ['InstanceIds']);
        return { StartingInstances: startAll(instancesOf(state, input), instances, capacity) };
      },
    },
    ModifyInstanceAttribute: {
      bucket: MUTATING,
      authorize: (input) => [authorizations.changeType(state.instance(input.InstanceId), input.InstanceType?.Value)],
      invoke(input) {
        onlyKnown('ModifyInstanceAttribute', input, ['InstanceId', 'InstanceType']);
        onlyKnown('ModifyInstanceAttribute.InstanceType', input.InstanceType, ['Value']);
        if (!input.InstanceType?.Value) throw new NotModelled('ModifyInstanceAttribute without an InstanceType');
        instances.changeType(state.instance(input.InstanceId), input.InstanceType.Value);
        return {};
      },
    },
    AssignPrivateIpAddresses: {
      bucket: MUTATING,
      authorize: (input) => [
        authorizations.onInterface('ec2:AssignPrivateIpAddresses', state.networkInterface(input.NetworkInterfaceId)),
      ],
      invoke(input) {
        onlyKnown('AssignPrivateIpAddresses', input, ['NetworkInterfaceId', 'PrivateIpAddresses', 'AllowReassignment']);
        if (!input.PrivateIpAddresses?.length) throw missingParameter('PrivateIpAddresses');
        return addresses.assign(
          state.networkInterface(input.NetworkInterfaceId),
          input.PrivateIpAddresses,
          input.AllowReassignment ?? false,
        );
      },
    },
  } satisfies Record<string, Operation>;
}

/** All of them or none. */
function startAll(all: readonly Instance[], instances: Instances, capacity: Capacity): Shape[] {
  for (const instance of all) instances.refuseStart(instance);
  const stopped = all.filter(({ state }) => state === 'stopped');
  for (const { type, identity } of stopped) {
    if (!capacity.isOffered(type, identity.zone)) throw new AwsError('Unsupported', notOffered(type, identity.zone));
    const wanted = stopped.filter((other) => other.type === type).length;
    if (capacity.left(type, 'on-demand') < wanted) throw insufficientCapacity(type, identity.zone);
  }
  for (const { type } of stopped) capacity.take(type, 'on-demand');
  return all.map((instance) => instances.start(instance));
}

function instancesOf(state: Ec2State, input: Shape): Instance[] {
  if (!input.InstanceIds?.length) throw missingParameter('InstanceIds');
  return input.InstanceIds.map((id: string) => state.instance(id));
}

function describeInstances(state: Ec2State, input: Shape): Shape {
  onlyKnown('DescribeInstances', input, ['InstanceIds', 'Filters', 'MaxResults', 'NextToken']);
  const ids: string[] | undefined = input.InstanceIds;
  if (ids?.length && input.MaxResults !== undefined)
    throw invalidParameter('The parameter instancesSet cannot be used with the parameter maxResults');
  const known = ids?.length ? [...new Set(ids)].map((id) => state.instance(id)) : [...state.instances.values()];
  const visible = known.filter((instance) => !state.isForgotten(instance));
  const page = paginate(visible, input, (instance) => instance.id, 5);
  const reservations = new Map<string, Shape>();
  for (const instance of page.items) {
    const shape = instance.view.read(state.now());
    if (!shape || !matches(shape, input.Filters, INSTANCE_FILTERS)) continue;
    const reservation = reservations.get(instance.reservationId) ?? {
      ReservationId: instance.reservationId,
      OwnerId: state.cloud.account,
      Groups: [],
      Instances: [],
    };
    reservation.Instances.push(shape);
    reservations.set(instance.reservationId, reservation);
  }
  return { Reservations: [...reservations.values()], NextToken: page.NextToken };
}

function volumeOperations({ state, volumes, modifications, authorizations }: Ec2Parts) {
  const newVolume = (input: Shape) => {
    const snapshot = input.SnapshotId === undefined ? undefined : state.snapshot(input.SnapshotId);
    const sizeGiB: number | undefined = input.Size ?? snapshot?.sizeGiB;
    if (sizeGiB === undefined) throw missingParameter('size/snapshot');
    if (snapshot && sizeGiB < snapshot.sizeGiB)
      throw invalidParameter(`The volume size must be at least that of the snapshot, ${snapshot.sizeGiB} GiB.`);
    return {
      zone: input.AvailabilityZone as string,
      sizeGiB,
      type: input.VolumeType,
      iops: input.Iops,
      throughput: input.Throughput,
      encrypted: snapshot?.encrypted ?? input.Encrypted ?? false,
      snapshotId: snapshot?.id,
      tags: parseTagSpecifications(input.TagSpecifications).get('volume') ?? (new Map() as Tags),
    };
  };
  return {
    DescribeVolumes: {
      bucket: describeBucket('VolumeIds'),
      authorize: () => authorizations.onAnything('ec2:DescribeVolumes'),
      invoke(input) {
        onlyKnown('DescribeVolumes', input, ['VolumeIds', 'Filters', 'MaxResults', 'NextToken']);
        const ids: string[] | undefined = input.VolumeIds;
        const known = ids?.length
          ? [...new Set(ids)].map((id) => state.visibleVolume(id))
          : [...state.volumes.values()];
        const page = paginate(known, input, (volume) => volume.id, 5);
        return {
          Volumes: page.items
            .map((volume) => volume.view.read(state.now()))
            .filter((shape) => shape && matches(shape, input.Filters, VOLUME_FILTERS)),
          NextToken: page.NextToken,
        };
      },
    },
    ModifyVolume: {
      bucket: MUTATING,
      authorize: (input) => [authorizations.onVolume('ec2:ModifyVolume', state.volume(input.VolumeId))],
      invoke: (input) => modifications.modify(state.volume(input.VolumeId), input),
    },
    DescribeVolumesModifications: {
      bucket: describeBucket('VolumeIds'),
      authorize: () => authorizations.onAnything('ec2:DescribeVolumesModifications'),
      invoke: (input) => describeModifications(state, input),
    },
    AttachVolume: {
      bucket: MUTATING,
      authorize: (input) => [
        authorizations.onInstance('ec2:AttachVolume', state.instance(input.InstanceId)),
        authorizations.onVolume('ec2:AttachVolume', state.volume(input.VolumeId)),
      ],
      invoke(input) {
        onlyKnown('AttachVolume', input, ['Device', 'InstanceId', 'VolumeId']);
        if (!input.Device) throw missingParameter('device');
        return volumes.attach(state.volume(input.VolumeId), state.instance(input.InstanceId), input.Device);
      },
    },
    DetachVolume: {
      bucket: MUTATING,
      authorize(input) {
        const volume = state.volume(input.VolumeId);
        const instance = volume.attachment?.instance;
        return [
          ...(instance ? [authorizations.onInstance('ec2:DetachVolume', instance)] : []),
          authorizations.onVolume('ec2:DetachVolume', volume),
        ];
      },
      invoke(input) {
        onlyKnown('DetachVolume', input, ['Device', 'Force', 'InstanceId', 'VolumeId']);
        return volumes.detach(state.volume(input.VolumeId), {
          instanceId: input.InstanceId,
          device: input.Device,
          force: input.Force ?? false,
        });
      },
    },
    CreateVolume: {
      bucket: CREATE_STORAGE,
      authorize(input) {
        const volume = newVolume(input);
        return authorizations.createVolume(volume.tags, volume);
      },
      invoke(input) {
        onlyKnown('CreateVolume', input, [
          'AvailabilityZone',
          'Size',
          'VolumeType',
          'Iops',
          'Throughput',
          'Encrypted',
          'SnapshotId',
          'TagSpecifications',
        ]);
        if (!input.AvailabilityZone) throw missingParameter('AvailabilityZone');
        return render.volume(volumes.create(newVolume(input)));
      },
    },
    DeleteVolume: {
      bucket: MUTATING,
      authorize: (input) => [authorizations.onVolume('ec2:DeleteVolume', state.volume(input.VolumeId))],
      invoke(input) {
        onlyKnown('DeleteVolume', input, ['VolumeId']);
        volumes.delete(state.volume(input.VolumeId));
        return {};
      },
    },
  } satisfies Record<string, Operation>;
}

/** Named volumes have to have been modified once; without names, the others are just not there. */
function describeModifications(state: Ec2State, input: Shape): Shape {
  onlyKnown('DescribeVolumesModifications', input, ['VolumeIds', 'Filters', 'MaxResults', 'NextToken']);
  const seen = (volume: Volume): Shape | undefined => volume.modificationView.read(state.now());
  const ids: string[] | undefined = input.VolumeIds;
  const known = ids?.length
    ? [...new Set(ids)].map((id) => state.visibleVolume(id))
    : [...state.volumes.values()].filter((volume) => seen(volume) !== undefined);
  const page = paginate(known, input, (volume) => volume.id, 1);
  const found = page.items.map((volume) => {
    const shape = seen(volume);
    if (!shape) throw modificationNotFound(volume.id);
    return shape;
  });
  return {
    VolumesModifications: found.filter((shape) => matches(shape, input.Filters, MODIFICATION_FILTERS)),
    NextToken: page.NextToken,
  };
}

function snapshotOperations({ state, volumes, authorizations }: Ec2Parts) {
  const tagsOf = (input: Shape): Tags => parseTagSpecifications(input.TagSpecifications).get('snapshot') ?? new Map();
  return {
    CreateSnapshot: {
      bucket: CREATE_STORAGE,
      authorize: (input) => authorizations.createSnapshot(state.volume(input.VolumeId), tagsOf(input)),
      async invoke(input) {
        onlyKnown('CreateSnapshot', input, ['VolumeId', 'Description', 'TagSpecifications']);
        const volume = state.volume(input.VolumeId);
        return render.snapshot(await volumes.snapshot(volume, input.Description ?? '', tagsOf(input)), state.cloud);
      },
    },
    DescribeSnapshots: {
      bucket: describeBucket('SnapshotIds'),
      authorize: () => authorizations.onAnything('ec2:DescribeSnapshots'),
      invoke(input) {
        onlyKnown('DescribeSnapshots', input, ['SnapshotIds', 'OwnerIds', 'Filters', 'MaxResults', 'NextToken']);
        if (input.OwnerIds?.some((owner: string) => owner !== 'self' && owner !== state.cloud.account))
          throw new NotModelled(`snapshots of other accounts: ${input.OwnerIds}`);
        const ids: string[] | undefined = input.SnapshotIds;
        const known = ids?.length ? ids.map((id) => state.visibleSnapshot(id)) : [...state.snapshots.values()];
        const page = paginate(known, input, (snapshot) => snapshot.id, 5);
        return {
          Snapshots: page.items
            .map((snapshot) => snapshot.view.read(state.now()))
            .filter((shape) => shape && matches(shape, input.Filters, SNAPSHOT_FILTERS)),
          NextToken: page.NextToken,
        };
      },
    },
    DeleteSnapshot: {
      bucket: MUTATING,
      authorize: (input) => [authorizations.onSnapshot('ec2:DeleteSnapshot', state.snapshot(input.SnapshotId))],
      async invoke(input) {
        onlyKnown('DeleteSnapshot', input, ['SnapshotId']);
        await volumes.deleteSnapshot(state.snapshot(input.SnapshotId));
        return {};
      },
    },
  } satisfies Record<string, Operation>;
}

function otherOperations({ state, capacity, authorizations }: Ec2Parts) {
  const onEach = (action: 'ec2:CreateTags' | 'ec2:DeleteTags', input: Shape) =>
    input.Resources.map((id: string) => {
      const { type, tags } = state.tagged(id);
      return authorizations.onTags(action, type, id, tags, parseTags(input.Tags));
    });
  return {
    DescribeLaunchTemplateVersions: {
      bucket: DESCRIBE,
      authorize: () => authorizations.onAnything('ec2:DescribeLaunchTemplateVersions'),
      invoke(input) {
        onlyKnown('DescribeLaunchTemplateVersions', input, ['LaunchTemplateId', 'LaunchTemplateName', 'Versions']);
        const template = state.template(input);
        const numbers: number[] = input.Versions?.length
          ? input.Versions.map((version: string) => templateVersion(template, version).number)
          : template.versions.map((_, index) => template.versions.length - index);
        return { LaunchTemplateVersions: numbers.map((number) => renderVersion(template, number)) };
      },
    },
    DescribeInstanceTypes: {
      bucket: DESCRIBE,
      authorize: () => authorizations.onAnything('ec2:DescribeInstanceTypes'),
      invoke(input) {
        onlyKnown('DescribeInstanceTypes', input, ['InstanceTypes', 'Filters']);
        const names: string[] = input.InstanceTypes ?? Object.keys(INSTANCE_TYPES);
        const unknown = names.filter((name) => !INSTANCE_TYPES[name]);
        if (unknown.length > 0) throw invalidInstanceType(unknown);
        const found = names.map(describeInstanceType);
        return { InstanceTypes: found.filter((shape) => matches(shape, input.Filters, INSTANCE_TYPE_FILTERS)) };
      },
    },
    DescribeInstanceTypeOfferings: {
      bucket: DESCRIBE,
      authorize: () => authorizations.onAnything('ec2:DescribeInstanceTypeOfferings'),
      invoke(input) {
        onlyKnown('DescribeInstanceTypeOfferings', input, ['LocationType', 'Filters', 'MaxResults', 'NextToken']);
        if (input.LocationType !== 'availability-zone')
          throw new NotModelled(`DescribeInstanceTypeOfferings: LocationType ${input.LocationType}`);
        const found = capacity
          .offerings()
          .map(({ type, zone }) => ({ InstanceType: type, LocationType: 'availability-zone', Location: zone }))
          .filter((shape) => matches(shape, input.Filters, OFFERING_FILTERS));
        const page = paginate(found, input, ({ InstanceType, Location }) => `${InstanceType} ${Location}`, 5);
        return { InstanceTypeOfferings: page.items, NextToken: page.NextToken };
      },
    },
    CreateTags: {
      bucket: TAGGING,
      authorize: (input) => onEach('ec2:CreateTags', input),
      invoke(input) {
        onlyKnown('CreateTags', input, ['Resources', 'Tags']);
        const added = parseTags(input.Tags);
        const resources = input.Resources.map((id: string) => state.tagged(id));
        for (const resource of resources) {
          addTags(resource.tags, added);
          resource.publish();
        }
        return {};
      },
    },
    DeleteTags: {
      bucket: TAGGING,
      authorize: (input) => onEach('ec2:DeleteTags', input),
      invoke(input) {
        onlyKnown('DeleteTags', input, ['Resources', 'Tags']);
        const resources = input.Resources.map((id: string) => state.tagged(id));
        for (const resource of resources) {
          removeTags(resource.tags, input.Tags);
          resource.publish();
        }
        return {};
      },
    },
  } satisfies Record<string, Operation>;
}

function describeInstanceType(name: string): Shape {
  const type = instanceType(name);
  return {
    InstanceType: name,
    ProcessorInfo: { SupportedArchitectures: [type.architecture] },
    VCpuInfo: { DefaultVCpus: type.vCpus },
    MemoryInfo: { SizeInMiB: type.memoryMiB },
    NetworkInfo: { Ipv4AddressesPerInterface: type.ipv4PerInterface },
  };
}

/** docs: DeleteTags: with a value, only the tag that has it; without tags, all that are the user's own */
function removeTags(from: Tags, tags: Shape): void {
  if (!tags) {
    for (const key of from.keys()) if (!key.startsWith('aws:')) from.delete(key);
    return;
  }
  for (const { Key, Value } of tags) {
    if (Value === undefined || from.get(Key) === Value) from.delete(Key);
  }
}
