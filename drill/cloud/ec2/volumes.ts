import type { Host } from '../../hosts/host.ts';
import { AwsError, NotModelled, type Shape } from '../kernel.ts';
import { incorrectState, invalidParameter, missingParameter, snapshotNotCompleted, volumeNotFound } from './errors.ts';
import { reachGuest } from './guest.ts';
import type { LaunchVolume } from './launch-volumes.ts';
import type { Attachment, Instance, Snapshot, Tags, Volume } from './records.ts';
import { renderAttachment } from './render.ts';
import type { Ec2State } from './state.ts';
import { View } from './view.ts';

/** How often EBS asks a guest again that did not let go. AWS does not document its own interval. */
const ASK_AGAIN_MS = 1000;

/** docs: CreateVolume, the gp3 baseline; what a volume of this type has when the request does not say. */
const GP3_IOPS = 3000;
const GP3_THROUGHPUT = 125;

export interface VolumeOptions {
  readonly zone: string;
  readonly sizeGiB: number;
  readonly type: string | undefined;
  readonly iops: number | undefined;
  readonly throughput: number | undefined;
  readonly encrypted: boolean;
  readonly snapshotId: string | undefined;
  readonly tags: Tags;
}

/** A volume that is born with an instance. */
export interface NewbornVolume {
  readonly volume: Volume;
  readonly attachment: Attachment;
  /** Settles when its content is there. */
  readonly filled: Promise<void>;
}

/** EBS: volumes, their attachments, and snapshots. */
export class Volumes {
  #state: Ec2State;

  constructor(state: Ec2State) {
    this.#state = state;
  }

  /**
   * A new volume in state `creating`; the content appears with `available`.
   * @throws AwsError IncorrectState when its snapshot is not completed
   */
  create(options: VolumeOptions): Volume {
    const { snapshotId } = options;
    if (snapshotId !== undefined && this.#state.snapshot(snapshotId).state !== 'completed')
      throw snapshotNotCompleted(snapshotId);
    const volume = this.#record(options);
    this.#state.publishVolume(volume);
    this.#state.background(this.#fill(volume));
    return volume;
  }

  /** The root volume of a new instance. The machine itself stands for its content. */
  createRoot(instance: Instance, options: VolumeOptions): Volume {
    const volume = this.#record(options);
    volume.state = 'in-use';
    volume.attachment = {
      instance,
      device: instance.image.rootDeviceName,
      attachTime: this.#state.date(),
      deleteOnTermination: true,
      root: true,
      state: 'attached',
    };
    instance.volumes.add(volume);
    this.#state.publishVolume(volume);
    return volume;
  }

  /** The volume of a new instance that the launch asks for. Its snapshot is copied now. */
  createWith(instance: Instance, launched: LaunchVolume, tags: Tags): NewbornVolume {
    const { device, deleteOnTermination, sizeGiB, type, encrypted, snapshotId } = launched;
    const { zone } = instance.identity;
    const performance = { iops: undefined, throughput: undefined };
    const volume = this.#record({ zone, sizeGiB, type, ...performance, encrypted, snapshotId, tags });
    const attachment: Attachment = {
      instance,
      device,
      attachTime: this.#state.date(),
      deleteOnTermination,
      root: false,
      state: 'attaching',
    };
    volume.state = 'in-use';
    volume.attachment = attachment;
    instance.volumes.add(volume);
    this.#changed(volume, attachment, 'attaching');
    const filled = this.#state.runtime.createVolume({ volumeId: volume.id, sizeGiB }, snapshotId);
    return { volume, attachment, filled };
  }

  /** The new guest sees the volume. */
  async arrive({ volume, attachment }: NewbornVolume, host: Host): Promise<void> {
    await host.attach({ volumeId: volume.id, sizeGiB: volume.sizeGiB });
    this.#attached(volume, attachment);
  }

  #record(options: VolumeOptions): Volume {
    const type = options.type ?? 'gp3';
    if (type !== 'gp3') throw new NotModelled(`volume type ${type}`);
    if (!(options.sizeGiB >= 1)) throw missingParameter('size/snapshot');
    const volume: Volume = {
      id: this.#state.newId('vol'),
      zone: options.zone,
      createTime: this.#state.date(),
      encrypted: options.encrypted,
      snapshotId: options.snapshotId,
      tags: options.tags,
      view: new View(),
      sizeGiB: options.sizeGiB,
      type,
      iops: options.iops ?? GP3_IOPS,
      throughput: options.throughput ?? GP3_THROUGHPUT,
      modifications: [],
      modificationView: new View(),
      state: 'creating',
      attachment: undefined,
    };
    this.#state.volumes.set(volume.id, volume);
    return volume;
  }

  async #fill(volume: Volume): Promise<void> {
    const { cloud, runtime } = this.#state;
    await Promise.all([
      runtime.createVolume({ volumeId: volume.id, sizeGiB: volume.sizeGiB }, volume.snapshotId),
      cloud.clock.sleep(cloud.latency('ec2.createVolume', volume.id)),
    ]);
    volume.state = 'available';
    this.#state.publishVolume(volume);
  }

  /** Resolves when a new volume is available (for CloudFormation, which waits). */
  async untilAvailable(volume: Volume): Promise<void> {
    while (volume.state === 'creating') await this.#state.cloud.clock.sleep(ASK_AGAIN_MS);
  }

  /** @throws AwsError as AttachVolume does */
  attach(volume: Volume, instance: Instance, device: string): Shape {
    if (volume.state === 'in-use') throw new AwsError('VolumeInUse', `${volume.id} is already attached to an instance`);
    if (volume.state === 'deleting' || volume.state === 'deleted') throw volumeNotFound(volume.id);
    if (volume.state === 'creating') throw incorrectState(`${volume.id} is not 'available'.`);
    const modification = volume.modifications.at(-1);
    if (modification?.state === 'modifying')
      throw new AwsError(
        'OperationNotPermitted',
        `Cannot attach volume ${volume.id} when it is in modification state: MODIFYING`,
      );
    if (instance.state !== 'running' && instance.state !== 'stopped')
      throw incorrectState(`Instance '${instance.id}' is not 'running'.`);
    if (volume.zone !== instance.identity.zone)
      throw new AwsError(
        'InvalidVolume.ZoneMismatch',
        `The volume '${volume.id}' is not in the same availability zone as instance '${instance.id}'`,
      );
    if ([...instance.volumes].some((other) => other.attachment?.device === device))
      throw invalidParameter(`Invalid value '${device}' for unixDevice. Attachment point ${device} is already in use`);
    const attachment: Attachment = {
      instance,
      device,
      attachTime: this.#state.date(),
      deleteOnTermination: false,
      root: false,
      state: 'attaching',
    };
    volume.attachment = attachment;
    volume.state = 'in-use';
    instance.volumes.add(volume);
    this.#changed(volume, attachment, 'attaching');
    this.#state.background(this.#finishAttach(volume, attachment));
    return renderAttachment(volume, attachment);
  }

  async #finishAttach(volume: Volume, attachment: Attachment): Promise<void> {
    const { cloud } = this.#state;
    await cloud.clock.sleep(cloud.latency('ec2.attach', volume.id));
    const { instance } = attachment;
    await reachGuest(instance, (host) => host.attach({ volumeId: volume.id, sizeGiB: volume.sizeGiB }));
    // A dead guest does not see the device, but the volume is attached to its instance all the same.
    this.#attached(volume, attachment);
  }

  #attached(volume: Volume, attachment: Attachment): void {
    if (volume.attachment !== attachment || attachment.instance.state === 'shutting-down') return;
    attachment.state = 'attached';
    this.#changed(volume, attachment, 'attached');
  }

  /**
   * @param force takes the volume away although the guest may still write to it
   * @throws AwsError as DetachVolume does
   */
  detach(
    volume: Volume,
    options: {
      readonly instanceId?: string | undefined;
      readonly device?: string | undefined;
      readonly force: boolean;
    },
  ): Shape {
    const { attachment } = volume;
    if (!attachment) throw incorrectState(`Volume '${volume.id}' is in the '${volume.state}' state.`);
    const { instance } = attachment;
    if (
      (options.instanceId !== undefined && options.instanceId !== instance.id) ||
      (options.device !== undefined && options.device !== attachment.device)
    )
      throw new AwsError(
        'InvalidAttachment.NotFound',
        `The volume '${volume.id}' is not attached to instance '${options.instanceId ?? instance.id}' as device '${options.device ?? attachment.device}'.`,
      );
    if (attachment.root && instance.state === 'stopped') throw new NotModelled('an instance without its root volume');
    if (attachment.root)
      throw new AwsError(
        'OperationNotPermitted',
        `Unable to detach root volume '${volume.id}' from instance '${instance.id}'`,
      );
    if (attachment.state === 'attaching') throw incorrectState(`Volume '${volume.id}' is in the 'attaching' state.`);
    const first = attachment.state === 'attached';
    if (first) {
      attachment.state = 'detaching';
      this.#changed(volume, attachment, 'detaching');
    }
    if (options.force) {
      if (instance.state === 'running')
        this.#state.cloud.record('force-detach', volume.id, { instanceId: instance.id, device: attachment.device });
      this.#state.background(this.#takeAway(volume, attachment));
    } else if (first) {
      this.#state.background(this.#letGo(volume, attachment));
    }
    return renderAttachment(volume, attachment);
  }

  /** Asks the guest until it lets go. A guest that does not answer keeps the volume until its instance ends. */
  async #letGo(volume: Volume, attachment: Attachment): Promise<void> {
    const { cloud } = this.#state;
    const latency = cloud.latency('ec2.detach', volume.id);
    await cloud.clock.sleep(latency / 2);
    for (;;) {
      if (volume.attachment !== attachment) return;
      const { instance } = attachment;
      if (instance.state === 'stopped') break;
      const answer = await reachGuest(instance, (host) => host.detach(volume.id));
      if (answer === 'detached') break;
      if (answer === 'busy' && attachment.state === 'detaching' && volume.attachment === attachment) {
        attachment.state = 'busy';
        this.#changed(volume, attachment, 'busy');
      }
      await cloud.clock.sleep(ASK_AGAIN_MS);
    }
    await cloud.clock.sleep(latency / 2);
    if (volume.attachment === attachment) this.release(volume);
  }

  async #takeAway(volume: Volume, attachment: Attachment): Promise<void> {
    const { cloud } = this.#state;
    await cloud.clock.sleep(cloud.latency('ec2.detach', volume.id));
    if (volume.attachment !== attachment) return;
    await reachGuest(attachment.instance, (host) => host.detach(volume.id));
    if (volume.attachment === attachment) this.release(volume);
  }

  /** The attachment is over; the volume is available again. */
  release(volume: Volume): void {
    const { attachment } = volume;
    if (!attachment) return;
    volume.attachment = undefined;
    volume.state = 'available';
    attachment.instance.volumes.delete(volume);
    this.#changed(volume, attachment, 'detached');
  }

  #changed(volume: Volume, attachment: Attachment, state: Attachment['state'] | 'detached'): void {
    const { instance, device, root } = attachment;
    const { snapshotId } = volume;
    const detail = { instanceId: instance.id, device, root, state, ...(snapshotId !== undefined && { snapshotId }) };
    this.#state.cloud.record('volume-attachment', volume.id, detail);
    this.#state.publishVolume(volume);
    this.#state.publishInstance(instance);
  }

  /** @throws AwsError as DeleteVolume does */
  delete(volume: Volume): void {
    if (volume.attachment)
      throw new AwsError(
        'VolumeInUse',
        `Volume ${volume.id} is currently attached to ${volume.attachment.instance.id}`,
      );
    if (volume.state !== 'available') throw incorrectState(`Volume '${volume.id}' is in the '${volume.state}' state.`);
    this.#state.background(this.#remove(volume, () => this.#state.runtime.deleteVolume(volume.id)));
  }

  /** A root volume ends with its machine. */
  deleteRoot(volume: Volume): void {
    this.#state.background(this.#remove(volume, async () => {}));
  }

  async #remove(volume: Volume, removeContent: () => Promise<void>): Promise<void> {
    volume.state = 'deleting';
    this.#state.cloud.record('volume-deleted', volume.id);
    this.#state.publishVolume(volume);
    await removeContent();
    volume.state = 'deleted';
    this.#state.publishVolume(volume);
    this.#state.volumes.delete(volume.id);
  }

  /** A snapshot of the volume as it is now. @throws AwsError as CreateSnapshot does */
  async snapshot(volume: Volume, description: string, tags: Tags): Promise<Snapshot> {
    if (volume.state !== 'available' && volume.state !== 'in-use')
      throw incorrectState(`Volume '${volume.id}' is in the '${volume.state}' state.`);
    if (volume.attachment?.root) throw new NotModelled('snapshots of root volumes');
    const snapshot: Snapshot = {
      id: this.#state.newId('snap'),
      volumeId: volume.id,
      sizeGiB: volume.sizeGiB,
      encrypted: volume.encrypted,
      startTime: this.#state.date(),
      description,
      tags,
      view: new View(),
      state: 'pending',
    };
    // The point in time is that of the request, so the content is taken before the answer.
    await this.#state.runtime.createSnapshot(snapshot.id, volume.id);
    this.#state.snapshots.set(snapshot.id, snapshot);
    this.#snapshotChanged(snapshot);
    this.#state.background(this.#completeSnapshot(snapshot));
    return snapshot;
  }

  async #completeSnapshot(snapshot: Snapshot): Promise<void> {
    const { cloud } = this.#state;
    await cloud.clock.sleep(cloud.latency('ec2.snapshot', snapshot.id));
    if (snapshot.state !== 'pending') return;
    snapshot.state = 'completed';
    this.#snapshotChanged(snapshot);
  }

  /** What is being copied never gets complete. */
  failSnapshot(snapshot: Snapshot): void {
    if (snapshot.state !== 'pending') throw new Error(`${snapshot.id} is ${snapshot.state}, so it cannot fail`);
    snapshot.state = 'error';
    this.#snapshotChanged(snapshot);
  }

  #snapshotChanged(snapshot: Snapshot): void {
    const { id, volumeId, state } = snapshot;
    this.#state.cloud.record('snapshot', id, { volumeId, state });
    this.#state.publishSnapshot(snapshot);
  }

  async deleteSnapshot(snapshot: Snapshot): Promise<void> {
    this.#state.snapshots.delete(snapshot.id);
    await this.#state.runtime.deleteSnapshot(snapshot.id);
  }
}
