import type { HostRuntime } from '../../hosts/host.ts';
import { AwsError, type Cloud, NotModelled } from '../kernel.ts';
import type { Random } from '../random.ts';
import * as errors from './errors.ts';
import type {
  Image,
  Instance,
  LaunchTemplate,
  Modification,
  NetworkInterface,
  NetworkResource,
  Snapshot,
  Tags,
  Volume,
} from './records.ts';
import { render } from './render.ts';
import type { Subnet } from './subnet.ts';

/** docs: TerminateInstances, "Terminated instances remain visible after termination (for approximately one hour)." */
const TERMINATED_VISIBLE_MS = 3_600_000;

/** Everything that EC2 knows in one account and region, and how its parts find and show it. */
export class Ec2State {
  readonly cloud: Cloud;
  readonly runtime: HostRuntime;
  readonly random: Random;
  readonly instances = new Map<string, Instance>();
  readonly interfaces = new Map<string, NetworkInterface>();
  readonly volumes = new Map<string, Volume>();
  readonly snapshots = new Map<string, Snapshot>();
  readonly templates = new Map<string, LaunchTemplate>();
  readonly images = new Map<string, Image>();
  readonly subnets = new Map<string, Subnet>();
  readonly networkResources = new Map<string, NetworkResource>();

  constructor(cloud: Cloud, runtime: HostRuntime) {
    this.cloud = cloud;
    this.runtime = runtime;
    this.random = cloud.random.fork('ec2');
  }

  now(): number {
    return this.cloud.clock.now();
  }

  date(): Date {
    return new Date(this.now());
  }

  /** e.g. `vol-0123456789abcdef0` */
  newId(prefix: string): string {
    return `${prefix}-0${this.random.hex(16)}`;
  }

  /** Lets work go on after the answer to a request. An error of it is one of the model, never of AWS. */
  background(work: Promise<unknown>): void {
    work.catch((error: unknown) => this.cloud.fail(error instanceof Error ? error : new Error(String(error))));
  }

  /** Shows Describe calls the instance as it is now, a moment later. */
  publishInstance(instance: Instance): void {
    instance.view.publish(
      render.instance(instance, this.cloud),
      this.now(),
      this.cloud.latency('ec2.describeLag', instance.id),
    );
  }

  publishVolume(volume: Volume): void {
    volume.view.publish(render.volume(volume), this.now(), this.cloud.latency('ec2.describeLag', volume.id));
  }

  publishModification(volume: Volume, modification: Modification): void {
    volume.modificationView.publish(
      render.modification(modification),
      this.now(),
      this.cloud.latency('ec2.describeLag', volume.id),
    );
  }

  publishSnapshot(snapshot: Snapshot): void {
    snapshot.view.publish(
      render.snapshot(snapshot, this.cloud),
      this.now(),
      this.cloud.latency('ec2.describeLag', snapshot.id),
    );
  }

  /** Whether Describe calls still show it: a terminated instance does for about an hour. */
  isForgotten(instance: Instance): boolean {
    return instance.terminatedAt !== undefined && this.now() > instance.terminatedAt + TERMINATED_VISIBLE_MS;
  }

  /** @throws AwsError InvalidInstanceID.NotFound, also while the instance is too new to be visible everywhere */
  instance(id: string): Instance {
    if (!/^i-[0-9a-f]{8}([0-9a-f]{9})?$/.test(id))
      throw new AwsError('InvalidInstanceID.Malformed', `Invalid id: "${id}"`);
    const instance = this.instances.get(id);
    if (!instance || this.isForgotten(instance) || !instance.view.read(this.now())) throw errors.instanceNotFound(id);
    return instance;
  }

  /** @throws AwsError InvalidVolume.NotFound */
  volume(id: string): Volume {
    const volume = this.volumes.get(id);
    if (!volume) throw errors.volumeNotFound(id);
    return volume;
  }

  /** As Describe calls find it. @throws AwsError InvalidVolume.NotFound, also while it is too new to be visible */
  visibleVolume(id: string): Volume {
    const volume = this.volume(id);
    if (!volume.view.read(this.now())) throw errors.volumeNotFound(id);
    return volume;
  }

  /** @throws AwsError InvalidSnapshot.NotFound */
  snapshot(id: string): Snapshot {
    const snapshot = this.snapshots.get(id);
    if (!snapshot) throw errors.snapshotNotFound(id);
    return snapshot;
  }

  /** As Describe calls find it. @throws AwsError InvalidSnapshot.NotFound, also while it is too new to be visible */
  visibleSnapshot(id: string): Snapshot {
    const snapshot = this.snapshot(id);
    if (!snapshot.view.read(this.now())) throw errors.snapshotNotFound(id);
    return snapshot;
  }

  /** @throws AwsError InvalidNetworkInterfaceID.NotFound */
  networkInterface(id: string): NetworkInterface {
    const found = this.interfaces.get(id);
    if (!found) throw errors.interfaceNotFound(id);
    return found;
  }

  /** @throws AwsError InvalidSubnetID.NotFound */
  subnet(id: string): Subnet {
    const subnet = this.subnets.get(id);
    if (!subnet) throw errors.subnetNotFound(id);
    return subnet;
  }

  /** @throws AwsError InvalidAMIID.NotFound */
  image(id: string): Image {
    const image = this.images.get(id);
    if (!image) throw errors.imageNotFound(id);
    return image;
  }

  /** @throws AwsError InvalidLaunchTemplateId.NotFound, InvalidLaunchTemplateName.NotFoundException */
  template(by: { readonly LaunchTemplateId?: string; readonly LaunchTemplateName?: string }): LaunchTemplate {
    const { LaunchTemplateId: id, LaunchTemplateName: name } = by;
    if ((id === undefined) === (name === undefined))
      throw errors.invalidParameter('Specify exactly one of a launch template ID and a launch template name.');
    if (id !== undefined) {
      const template = this.templates.get(id);
      if (!template) throw errors.templateNotFound(id);
      return template;
    }
    for (const template of this.templates.values()) if (template.name === name) return template;
    throw new AwsError(
      'InvalidLaunchTemplateName.NotFoundException',
      `The specified launch template, with template name ${name}, does not exist.`,
    );
  }

  /** The tags of any resource that can be tagged, by its id, and how to show that they changed. */
  tagged(id: string): { readonly type: string; readonly tags: Tags; publish(): void } {
    const nothing = () => {};
    switch (id.slice(0, id.indexOf('-'))) {
      case 'i': {
        const instance = this.instance(id);
        return { type: 'instance', tags: instance.tags, publish: () => this.publishInstance(instance) };
      }
      case 'vol': {
        const volume = this.volume(id);
        return { type: 'volume', tags: volume.tags, publish: () => this.publishVolume(volume) };
      }
      case 'snap': {
        const snapshot = this.snapshot(id);
        return { type: 'snapshot', tags: snapshot.tags, publish: () => this.publishSnapshot(snapshot) };
      }
      case 'eni':
        return { type: 'network-interface', tags: this.networkInterface(id).tags, publish: nothing };
      case 'lt':
        return { type: 'launch-template', tags: this.template({ LaunchTemplateId: id }).tags, publish: nothing };
      default:
        throw new NotModelled(`tags of ${id}`);
    }
  }
}
