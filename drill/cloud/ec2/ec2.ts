import type { Host, HostIdentity, HostRuntime } from '../../hosts/host.ts';
import { type Cloud, NotModelled, type Operation, type Service } from '../kernel.ts';
import type { ResourceHandlers } from '../resource.ts';
import { Addresses } from './addresses.ts';
import { Authorizations } from './authorization.ts';
import { Capacity } from './capacity.ts';
import { Fleets } from './fleet.ts';
import { ec2Handlers } from './handlers.ts';
import { Instances, type Interruption } from './instances.ts';
import { Modifications } from './modifications.ts';
import { ec2Operations } from './operations.ts';
import type { Health, Image, Instance, InstanceProfile, InstanceState, Lifecycle, SnapshotState } from './records.ts';
import { Ec2State } from './state.ts';
import { StatusChecks } from './status-checks.ts';
import { Volumes } from './volumes.ts';

/** What other services of the local cloud know of an instance: what is true, without the lag of Describe calls. */
export interface Machine {
  readonly identity: HostIdentity;
  readonly state: InstanceState;
  readonly lifecycle: Lifecycle;
  /** What is true, whatever the status checks have found: `hung` and `dead` guests do nothing although EC2 calls them running. */
  readonly health: Health;
  /** The guest; undefined before it exists and after it has ended. */
  readonly host: Host | undefined;
  readonly tags: ReadonlyMap<string, string>;
}

/** What is true of a volume, for the checks. */
export interface VolumeTruth {
  readonly volumeId: string;
  readonly state: string;
  readonly sizeGiB: number;
  readonly zone: string;
  readonly tags: ReadonlyMap<string, string>;
  readonly attachment: { readonly instanceId: string; readonly device: string; readonly state: string } | undefined;
}

/** What is true of a snapshot. */
export interface SnapshotTruth {
  readonly snapshotId: string;
  readonly volumeId: string;
  readonly state: SnapshotState;
  readonly tags: ReadonlyMap<string, string>;
}

/** EC2 and EBS, as far as Keeper uses them. */
export class Ec2 implements Service {
  readonly name = 'ec2';
  readonly operations: Readonly<Record<string, Operation>>;
  readonly handlers: ResourceHandlers;
  /** IAM's answer to: which role is in this instance profile (name or ARN)? Set by whoever puts the cloud together. */
  resolveInstanceProfile: (profileNameOrArn: string) => string;
  #state: Ec2State;
  #volumes: Volumes;
  #instances: Instances;
  #capacity: Capacity;

  constructor(cloud: Cloud, runtime: HostRuntime) {
    this.#state = new Ec2State(cloud, runtime);
    const volumes = new Volumes(this.#state);
    this.#volumes = volumes;
    const addresses = new Addresses(this.#state);
    const statusChecks = new StatusChecks(this.#state);
    this.#instances = new Instances(this.#state, volumes, addresses, statusChecks);
    cloud.onHappening(({ kind, subject, detail }) => {
      const instance = this.#state.instances.get(subject);
      if (!instance || kind !== 'guest') return;
      if (detail['state'] === 'hung') this.#instances.hung(instance);
      if (detail['state'] === 'off') this.#instances.poweredOff(instance);
    });
    this.#capacity = new Capacity(cloud.region);
    const fleets = new Fleets(this.#state, this.#instances, this.#capacity, (nameOrArn) =>
      this.#instanceProfile(nameOrArn),
    );
    this.resolveInstanceProfile = (nameOrArn) => {
      throw new NotModelled(`instance profile ${nameOrArn}: nothing says which role is in it`);
    };
    this.operations = ec2Operations({
      state: this.#state,
      volumes,
      modifications: new Modifications(this.#state),
      addresses,
      instances: this.#instances,
      statusChecks,
      fleets,
      capacity: this.#capacity,
      authorizations: new Authorizations(cloud),
    });
    this.handlers = ec2Handlers(this.#state, volumes);
  }

  #instanceProfile(nameOrArn: string): InstanceProfile {
    const arn = nameOrArn.startsWith('arn:')
      ? nameOrArn
      : `arn:aws:iam::${this.#state.cloud.account}:instance-profile/${nameOrArn}`;
    return { arn, roleArn: this.resolveInstanceProfile(nameOrArn) };
  }

  /** Makes an AMI known. Launches of an unknown one are refused as AWS refuses them. */
  registerImage(image: Image): void {
    this.#state.images.set(image.imageId, image);
  }

  /**
   * What AWS has to give of an instance type; without a word from here there is no limit.
   * @param available false: nothing; a number: so many launches; true: no limit
   */
  capacity(type: string, lifecycle: Lifecycle, available: boolean | number): void {
    const launches = typeof available === 'number' ? available : available ? Number.POSITIVE_INFINITY : 0;
    this.#capacity.set(type, lifecycle, launches);
  }

  /** Whether AWS has an instance type in a zone at all; without a word from here it has every type everywhere. */
  offering(type: string, zone: string, available: boolean): void {
    this.#capacity.setOffered(type, zone, available);
  }

  /** EC2 takes a Spot instance back: perhaps a rebalance recommendation, the notice, then a normal shutdown. */
  interrupt(instanceId: string, options: Interruption = {}): void {
    this.#instances.interrupt(this.#existing(instanceId), options);
  }

  /** The hardware under a running instance fails. Resolves when its guest is dead. */
  failHost(instanceId: string): Promise<void> {
    return this.#instances.fail(this.#existing(instanceId));
  }

  /** A snapshot that is being made fails: its state is `error` from now on. */
  failSnapshot(snapshotId: string): void {
    this.#volumes.failSnapshot(this.#state.snapshot(snapshotId));
  }

  /** An instance as it is, also one that Describe calls do not show yet; undefined when there never was one. */
  machine(instanceId: string): Machine | undefined {
    return this.#state.instances.get(instanceId);
  }

  /** All instances that ever were. */
  machines(): readonly Machine[] {
    return [...this.#state.instances.values()];
  }

  /** The volumes that exist, root volumes left out. */
  volumes(): readonly VolumeTruth[] {
    return [...this.#state.volumes.values()]
      .filter((volume) => !volume.attachment?.root)
      .map(({ id, state, sizeGiB, zone, tags, attachment }) => ({
        volumeId: id,
        state,
        sizeGiB,
        zone,
        tags,
        attachment: attachment && {
          instanceId: attachment.instance.id,
          device: attachment.device,
          state: attachment.state,
        },
      }));
  }

  /** The snapshots that exist. */
  snapshots(): readonly SnapshotTruth[] {
    return [...this.#state.snapshots.values()].map(({ id, volumeId, state, tags }) => ({
      snapshotId: id,
      volumeId,
      state,
      tags,
    }));
  }

  /** The instance to which the network delivers a private address, undefined when there is none. */
  holderOf(address: string): string | undefined {
    for (const networkInterface of this.#state.interfaces.values()) {
      if (networkInterface.primary === address || networkInterface.secondary.includes(address))
        return networkInterface.instanceId;
    }
    return undefined;
  }

  #existing(instanceId: string): Instance {
    const instance = this.#state.instances.get(instanceId);
    if (!instance) throw new Error(`there is no instance ${instanceId}`);
    return instance;
  }
}
