import {
  DescribeVolumesCommand,
  type EC2Client,
  type Instance,
  paginateDescribeInstances,
  type Volume,
} from '@aws-sdk/client-ec2';
import { VolumeUnusable } from '../core/errors.ts';
import type { DatabaseState, HostState, VolumeState } from '../core/state.ts';
import {
  BLANK_TAG,
  DATABASE_TAG,
  EXECUTION_TAG,
  IMAGE_TAG,
  INTERRUPTED_AT_TAG,
  MODIFIED_AT_TAG,
  ROLE_TAG,
  VERIFIED_AT_TAG,
} from '../core/tags.ts';
import type { Database } from './database.ts';
import { tag } from './tag.ts';

type Observable = Pick<Database, 'name' | 'volumeId' | 'address'>;

/**
 * Reads a database's volume and hosts from EC2.
 *
 * @throws VolumeUnusable when the volume does not exist or is not tagged as this database's
 */
export async function observe(ec2: EC2Client, database: Observable): Promise<DatabaseState> {
  const [volume, hosts] = await Promise.all([observeVolume(ec2, database), observeHosts(ec2, database)]);
  return { volume, hosts };
}

async function observeVolume(ec2: EC2Client, database: Observable): Promise<VolumeState> {
  // A filter instead of VolumeIds: a volume that is missing is an empty answer, not an error code to be parsed.
  const { Volumes } = await ec2.send(
    new DescribeVolumesCommand({ Filters: [{ Name: 'volume-id', Values: [database.volumeId] }] }),
  );
  const volume = Volumes?.[0];
  if (!volume) {
    throw new VolumeUnusable(
      `the data volume ${database.volumeId} of ${database.name} does not exist: correct the parameter /keeper/${database.name}/volume-id`,
    );
  }
  if (tag(volume.Tags, DATABASE_TAG) !== database.name) {
    throw new VolumeUnusable(
      `the volume ${database.volumeId} is not tagged ${DATABASE_TAG}=${database.name}: Keeper touches only what is its own`,
    );
  }
  return volumeState(database.volumeId, volume);
}

function volumeState(id: string, volume: Volume): VolumeState {
  const attachment = volume.Attachments?.find((each) => each.State !== 'detached');
  const modifiedAt = tag(volume.Tags, MODIFIED_AT_TAG);
  return {
    id,
    state: volume.State ?? 'error',
    sizeGiB: volume.Size ?? 0,
    blank: tag(volume.Tags, BLANK_TAG) === 'true',
    ...(modifiedAt !== undefined && { modifiedAt }),
    ...(attachment?.InstanceId && {
      attachment: {
        hostId: attachment.InstanceId,
        state: attachment.State === 'detached' || !attachment.State ? 'busy' : attachment.State,
      },
    }),
  };
}

async function observeHosts(ec2: EC2Client, database: Observable): Promise<HostState[]> {
  const hosts: HostState[] = [];
  const pages = paginateDescribeInstances(
    { client: ec2 },
    {
      Filters: [
        { Name: `tag:${DATABASE_TAG}`, Values: [database.name] },
        { Name: `tag:${ROLE_TAG}`, Values: ['host'] },
      ],
    },
  );
  for await (const page of pages) {
    for (const reservation of page.Reservations ?? []) {
      for (const instance of reservation.Instances ?? []) hosts.push(hostState(instance, database.address));
    }
  }
  return hosts;
}

function hostState(instance: Instance, address: string): HostState {
  const networkInterface = instance.NetworkInterfaces?.[0];
  const execution = tag(instance.Tags, EXECUTION_TAG);
  const image = tag(instance.Tags, IMAGE_TAG);
  const interruptedAt = Date.parse(tag(instance.Tags, INTERRUPTED_AT_TAG) ?? '');
  return {
    id: instance.InstanceId ?? '',
    // A state that EC2 does not name is no reason to believe that the host is gone.
    state: instance.State?.Name ?? 'running',
    lifecycle: instance.InstanceLifecycle === 'spot' ? 'spot' : 'on-demand',
    instanceType: instance.InstanceType ?? 'unknown',
    imageId: instance.ImageId ?? 'unknown',
    launchedAt: instance.LaunchTime?.getTime() ?? 0,
    verified: tag(instance.Tags, VERIFIED_AT_TAG) !== undefined,
    hasAddress: networkInterface?.PrivateIpAddresses?.some((each) => each.PrivateIpAddress === address) ?? false,
    ...(execution && { execution }),
    ...(image && { image }),
    ...(Number.isFinite(interruptedAt) && { interruptedAt }),
    ...(networkInterface?.NetworkInterfaceId && { interfaceId: networkInterface.NetworkInterfaceId }),
  };
}
