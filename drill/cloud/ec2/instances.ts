import { AwsError, type AwsEvent, NotModelled, type Shape } from '../kernel.ts';
import type { LatencyName } from '../latencies.ts';
import type { Addresses } from './addresses.ts';
import { architectureMismatch, invalidParameter } from './errors.ts';
import { INSTANCE_TYPES, instanceType } from './instance-types.ts';
import { decodeUserData, type LaunchTemplateData } from './launch-template.ts';
import type { LaunchVolume } from './launch-volumes.ts';
import type {
  Image,
  Instance,
  InstanceProfile,
  InstanceState,
  Lifecycle,
  NetworkInterface,
  Tags,
  Volume,
} from './records.ts';
import { STATE_CODES } from './records.ts';
import type { Ec2State } from './state.ts';
import type { StatusChecks } from './status-checks.ts';
import type { Subnet } from './subnet.ts';
import { formatAddress } from './subnet.ts';
import { View } from './view.ts';
import type { NewbornVolume, Volumes } from './volumes.ts';

export interface Launch {
  readonly type: string;
  readonly lifecycle: Lifecycle;
  readonly subnet: Subnet;
  readonly image: Image;
  readonly profile: InstanceProfile;
  readonly template: LaunchTemplateData;
  /** Beside the root volume. */
  readonly volumes: readonly LaunchVolume[];
  /** base64 */
  readonly userData: string | undefined;
  readonly tags: ReadonlyMap<string, Tags>;
  readonly reservationId: string;
  readonly amiLaunchIndex: number;
  readonly clientToken: string;
}

export interface Interruption {
  /** From the notice to the shutdown. */
  readonly noticeSeconds?: number;
  /** A rebalance recommendation this long before the notice; without it there is none. */
  readonly rebalanceSecondsBefore?: number;
}

/** docs: "two minutes before your Spot Instance is stopped or terminated" */
const NOTICE_SECONDS = 120;

/** RFC 5737 documentation addresses: nothing that runs here can be reached from outside. */
const PUBLIC_NETWORK = 0xcb007100; // 203.0.113.0

interface Reason {
  /** What StateTransitionReason says. */
  readonly transition: string;
  readonly code: string;
  readonly message: string;
}

const USER_INITIATED = { code: 'Client.UserInitiatedShutdown', message: 'User initiated shutdown' };

const stateChange = (instance: Instance, previous: InstanceState): Shape => ({
  InstanceId: instance.id,
  CurrentState: { Code: STATE_CODES[instance.state], Name: instance.state },
  PreviousState: { Code: STATE_CODES[previous], Name: previous },
});

/** The volumes whose devices a guest of this instance has from the start. */
const attachedData = (instance: Instance): Volume[] =>
  [...instance.volumes].filter(({ attachment }) => attachment?.state === 'attached' && !attachment.root);

/** A question, because a state that was checked before a wait says nothing after it. */
const isIn = (instance: Instance, state: InstanceState): boolean => instance.state === state;

/** The life of instances: pending → running → shutting-down → terminated, with stops and starts of on-demand ones between. */
export class Instances {
  #state: Ec2State;
  #volumes: Volumes;
  #addresses: Addresses;
  #statusChecks: StatusChecks;
  #publicAddresses = 0;

  constructor(state: Ec2State, volumes: Volumes, addresses: Addresses, statusChecks: StatusChecks) {
    this.#state = state;
    this.#volumes = volumes;
    this.#addresses = addresses;
    this.#statusChecks = statusChecks;
  }

  /**
   * A new instance in state `pending`. Everything else follows by itself.
   * @throws AwsError InsufficientFreeAddressesInSubnet
   */
  launch(launch: Launch): Instance {
    const { random } = this.#state;
    const id = this.#state.newId('i');
    const networkInterface = this.#createInterface(id, launch);
    const instance: Instance = {
      id,
      reservationId: launch.reservationId,
      identity: {
        instanceId: id,
        instanceType: launch.type,
        zone: launch.subnet.zone,
        privateIp: networkInterface.primary,
        macAddress: networkInterface.macAddress,
        interfaceId: networkInterface.id,
        roleArn: launch.profile.roleArn,
      },
      launchTime: this.#state.date(),
      amiLaunchIndex: launch.amiLaunchIndex,
      type: launch.type,
      lifecycle: launch.lifecycle,
      spotRequestId: launch.lifecycle === 'spot' ? `sir-${random.hex(8)}` : undefined,
      clientToken: launch.clientToken,
      image: launch.image,
      profile: launch.profile,
      template: launch.template,
      userData: launch.userData,
      tags: new Map(launch.tags.get('instance')),
      view: new View(),
      state: 'pending',
      transitionReason: '',
      stateReason: undefined,
      networkInterface,
      volumes: new Set(),
      created: Promise.resolve(),
      host: undefined,
      guestEnd: undefined,
      health: 'sound',
      checks: { system: { status: 'initializing' }, guest: { status: 'initializing' } },
      inFlight: new Set(),
      terminatedAt: undefined,
    };
    this.#state.instances.set(id, instance);
    this.#state.interfaces.set(networkInterface.id, networkInterface);
    this.#createRootVolume(instance, launch);
    const newborn = launch.volumes.map((volume) =>
      this.#volumes.createWith(instance, volume, new Map(launch.tags.get('volume'))),
    );
    this.#entered(instance, 'pending');
    instance.created = this.#createHost(instance, newborn);
    this.#state.background(this.#run(instance));
    return instance;
  }

  #createInterface(instanceId: string, launch: Launch): NetworkInterface {
    const { random } = this.#state;
    const { subnet, template } = launch;
    const primary = this.#addresses.takePrimary(subnet);
    const networkInterface: NetworkInterface = {
      id: this.#state.newId('eni'),
      attachmentId: this.#state.newId('eni-attach'),
      // 02: a locally administered address
      macAddress: `02:${(random.hex(10).match(/../g) ?? []).join(':')}`,
      subnet,
      securityGroups: template.securityGroups,
      instanceId,
      attachTime: this.#state.date(),
      primary,
      secondary: [],
      publicIp: this.#publicIp(template, subnet),
      tags: new Map(launch.tags.get('network-interface')),
    };
    subnet.owners.set(primary, networkInterface);
    return networkInterface;
  }

  #publicIp(template: LaunchTemplateData, subnet: Subnet): string | undefined {
    if (!(template.associatePublicIp ?? subnet.mapPublicIpOnLaunch)) return undefined;
    this.#publicAddresses = (this.#publicAddresses % 254) + 1;
    return formatAddress(PUBLIC_NETWORK + this.#publicAddresses);
  }

  #createRootVolume(instance: Instance, launch: Launch): void {
    const { image, template } = launch;
    const { root } = template;
    if (root && root.device !== image.rootDeviceName)
      throw new NotModelled(`a device ${root.device} at launch beside the root ${image.rootDeviceName}`);
    this.#volumes.createRoot(instance, {
      zone: launch.subnet.zone,
      sizeGiB: root?.sizeGiB ?? image.rootGiB,
      type: root?.type,
      iops: root?.iops,
      throughput: root?.throughput,
      encrypted: root?.encrypted ?? false,
      snapshotId: undefined,
      tags: new Map(launch.tags.get('volume')),
    });
  }

  async #createHost(instance: Instance, newborn: readonly NewbornVolume[] = []): Promise<void> {
    const [host] = await Promise.all([
      this.#state.runtime.createHost(instance.identity),
      ...newborn.map(({ filled }) => filled),
    ]);
    await host.setAddresses([instance.identity.privateIp, ...(instance.networkInterface?.secondary ?? [])]);
    instance.host = host;
    await Promise.all([
      ...attachedData(instance).map((volume) => host.attach({ volumeId: volume.id, sizeGiB: volume.sizeGiB })),
      ...newborn.map((volume) => this.#volumes.arrive(volume, host)),
    ]);
  }

  /** From `pending` to the first line of its user data. */
  async #run(instance: Instance): Promise<void> {
    const { cloud } = this.#state;
    const { launchTime } = instance;
    await Promise.all([instance.created, cloud.clock.sleep(cloud.latency('ec2.pendingToRunning', instance.id))]);
    if (!isIn(instance, 'pending')) return;
    this.#entered(instance, 'running');
    this.#statusChecks.began(instance);
    await cloud.clock.sleep(cloud.latency('ec2.runningToUserData', instance.id));
    if (!isIn(instance, 'running') || instance.launchTime !== launchTime || instance.health === 'dead') return;
    const { userData } = instance;
    instance.host?.boot(userData === undefined ? '' : decodeUserData(userData));
  }

  /** TerminateInstances for one instance. Idempotent, as it is. */
  terminate(instance: Instance, skipOsShutdown: boolean): Shape {
    const previous = instance.state;
    if (previous !== 'shutting-down' && previous !== 'terminated') {
      this.#end(instance, skipOsShutdown, {
        ...USER_INITIATED,
        transition: `User initiated (${this.#transitionTime()})`,
      });
    }
    return stateChange(instance, previous);
  }

  /** @throws AwsError when {@link stop} cannot be carried out */
  refuseStop(instance: Instance): void {
    if (instance.lifecycle === 'spot')
      throw new AwsError(
        'UnsupportedOperation',
        `You can't stop the Spot Instance '${instance.id}' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.`,
      );
    if (!['running', 'stopping', 'stopped'].includes(instance.state))
      throw new AwsError(
        'IncorrectInstanceState',
        `This instance '${instance.id}' is not in a state from which it can be stopped.`,
      );
  }

  /** StopInstances for one instance that can be stopped: its interface, addresses and volumes stay. Idempotent. */
  stop(instance: Instance, skipOsShutdown: boolean): Shape {
    const previous = instance.state;
    if (previous === 'running') {
      this.#leave(instance, 'stopping', {
        ...USER_INITIATED,
        transition: `User initiated (${this.#transitionTime()})`,
      });
      this.#state.background(this.#stop(instance, skipOsShutdown));
    }
    return stateChange(instance, previous);
  }

  async #stop(instance: Instance, skipOsShutdown: boolean): Promise<void> {
    await this.#endGuest(instance, skipOsShutdown, 'ec2.stop');
    if (!isIn(instance, 'stopping')) return;
    if (instance.networkInterface) instance.networkInterface.publicIp = undefined;
    this.#entered(instance, 'stopped');
  }

  /** @throws AwsError when {@link start} cannot be carried out, whatever capacity there is */
  refuseStart(instance: Instance): void {
    if (!['stopped', 'pending', 'running'].includes(instance.state))
      throw new AwsError(
        'IncorrectInstanceState',
        `The instance '${instance.id}' is not in a state from which it can be started.`,
      );
  }

  /** StartInstances for one instance that can be started: a fresh guest with the same identity, volumes and user data. Idempotent. */
  start(instance: Instance): Shape {
    const previous = instance.state;
    if (previous === 'stopped') {
      const { networkInterface } = instance;
      instance.launchTime = this.#state.date();
      instance.transitionReason = '';
      instance.stateReason = undefined;
      instance.health = 'sound';
      instance.guestEnd = undefined;
      if (networkInterface) networkInterface.publicIp = this.#publicIp(instance.template, networkInterface.subnet);
      this.#entered(instance, 'pending');
      instance.created = this.#createHost(instance);
      this.#state.background(this.#run(instance));
    }
    return stateChange(instance, previous);
  }

  /** ModifyInstanceAttribute: another type for a stopped instance. @throws AwsError as it does */
  changeType(instance: Instance, type: string): void {
    if (!INSTANCE_TYPES[type]) throw invalidParameter(`The following supplied instance types do not exist: [${type}]`);
    if (instance.state !== 'stopped')
      throw new AwsError('IncorrectInstanceState', `The instance '${instance.id}' is not in the 'stopped' state.`);
    const { architecture } = instanceType(type);
    if (architecture !== instance.image.architecture)
      throw architectureMismatch(architecture, instance.image.architecture);
    instance.type = type;
    instance.identity = { ...instance.identity, instanceType: type };
    this.#state.publishInstance(instance);
  }

  #transitionTime(): string {
    return `${this.#state.date().toISOString().slice(0, 19).replace('T', ' ')} GMT`;
  }

  #end(instance: Instance, skipOsShutdown: boolean, reason: Reason): void {
    const skip = skipOsShutdown || instance.state === 'stopped';
    this.#leave(instance, 'shutting-down', reason);
    this.#state.background(this.#terminate(instance, skip));
  }

  #leave(instance: Instance, to: 'stopping' | 'shutting-down', reason: Reason): void {
    instance.transitionReason = reason.transition;
    instance.stateReason = { Code: reason.code, Message: `${reason.code}: ${reason.message}` };
    this.#entered(instance, to);
  }

  async #terminate(instance: Instance, skipOsShutdown: boolean): Promise<void> {
    await this.#endGuest(instance, skipOsShutdown, 'ec2.terminate');
    this.#letGoOfEverything(instance);
    instance.terminatedAt = this.#state.now();
    this.#entered(instance, 'terminated');
  }

  async #endGuest(instance: Instance, skipOsShutdown: boolean, usual: 'ec2.stop' | 'ec2.terminate'): Promise<void> {
    const { cloud } = this.#state;
    const takes: LatencyName = skipOsShutdown
      ? 'ec2.terminateSkipOsShutdown'
      : instance.health !== 'sound'
        ? 'ec2.terminateUnresponsive'
        : usual;
    instance.guestEnd ??= this.#shutDown(instance, skipOsShutdown ? 'hard' : 'os');
    await Promise.all([cloud.clock.sleep(cloud.latency(takes, instance.id)), instance.guestEnd]);
  }

  async #shutDown(instance: Instance, how: 'os' | 'hard'): Promise<void> {
    await instance.created;
    const { host } = instance;
    instance.host = undefined;
    await Promise.allSettled(instance.inFlight);
    await host?.shutdown(how);
  }

  #letGoOfEverything(instance: Instance): void {
    for (const volume of [...instance.volumes]) {
      const { attachment } = volume;
      this.#volumes.release(volume);
      if (attachment?.root) this.#volumes.deleteRoot(volume);
      else if (attachment?.deleteOnTermination) this.#volumes.delete(volume);
    }
    const { networkInterface } = instance;
    if (!networkInterface) return;
    this.#addresses.releaseAll(networkInterface);
    this.#state.interfaces.delete(networkInterface.id);
    instance.networkInterface = undefined;
  }

  /** The hardware under the instance fails: its guest is dead at once, but EC2 still calls it running. */
  async fail(instance: Instance): Promise<void> {
    if (instance.state !== 'running') throw new Error(`${instance.id} is ${instance.state}, so it cannot fail`);
    instance.health = 'dead';
    this.#statusChecks.broke(instance);
    this.#state.cloud.record('instance-status', instance.id, { status: 'impaired' });
    instance.guestEnd = this.#shutDown(instance, 'hard');
    await instance.guestEnd;
  }

  /** The guest answers nobody any more; nothing tells EC2 but its status checks. */
  hung(instance: Instance): void {
    if (instance.state !== 'running' || instance.health !== 'sound') return;
    instance.health = 'hung';
    this.#statusChecks.broke(instance);
  }

  /** The guest has shut its machine down by itself. */
  poweredOff(instance: Instance): void {
    if (instance.state !== 'running') return;
    const { shutdownBehavior } = instance.template;
    if (shutdownBehavior !== 'terminate') {
      const what = `the guest of ${instance.id} powered off, and its instance is to ${shutdownBehavior}`;
      throw this.#state.cloud.fail(new NotModelled(what));
    }
    this.#end(instance, false, {
      transition: '',
      code: 'Client.InstanceInitiatedShutdown',
      message: 'Instance initiated shutdown',
    });
  }

  /** EC2 takes a Spot instance back: notice, then a normal shutdown. */
  interrupt(instance: Instance, options: Interruption): void {
    if (instance.lifecycle !== 'spot') throw new Error(`${instance.id} is not a Spot instance`);
    const { cloud } = this.#state;
    const noticeMs = (options.noticeSeconds ?? NOTICE_SECONDS) * 1000;
    const rebalanceMs = options.rebalanceSecondsBefore === undefined ? 0 : options.rebalanceSecondsBefore * 1000;
    if (options.rebalanceSecondsBefore !== undefined) {
      cloud.record('spot-rebalance', instance.id);
      this.#emit('EC2 Instance Rebalance Recommendation', [this.#arn(instance)], { 'instance-id': instance.id });
    }
    cloud.clock.after(rebalanceMs, () => {
      if (instance.state !== 'running') return;
      cloud.record('spot-notice', instance.id, { noticeSeconds: noticeMs / 1000 });
      // As documented: the zone in the place of the region, and no account.
      this.#emit(
        'EC2 Spot Instance Interruption Warning',
        [`arn:aws:ec2:${instance.identity.zone}:instance/${instance.id}`],
        { 'instance-id': instance.id, 'instance-action': 'terminate' },
      );
      cloud.clock.after(noticeMs, () => {
        if (instance.state !== 'running') return;
        this.#end(instance, false, {
          transition: `Server.SpotInstanceTermination (${this.#transitionTime()})`,
          code: 'Server.SpotInstanceTermination',
          message: 'Spot instance termination',
        });
      });
    });
  }

  #entered(instance: Instance, state: InstanceState): void {
    instance.state = state;
    this.#state.cloud.record('instance-state', instance.id, {
      state,
      instanceType: instance.type,
      lifecycle: instance.lifecycle,
      zone: instance.identity.zone,
      reason: instance.stateReason?.Code,
    });
    this.#state.publishInstance(instance);
    this.#emit('EC2 Instance State-change Notification', [this.#arn(instance)], {
      'instance-id': instance.id,
      state,
    });
  }

  #arn(instance: Instance): string {
    return this.#state.cloud.arn('ec2', `instance/${instance.id}`);
  }

  #emit(detailType: string, resources: string[], detail: Record<string, unknown>): void {
    const { cloud, random } = this.#state;
    const hex = random.hex(32);
    const event: AwsEvent = {
      // The documented sample of this one event has no version.
      ...(detailType === 'EC2 Instance State-change Notification' ? {} : { version: '0' }),
      id: [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-'),
      'detail-type': detailType,
      source: 'aws.ec2',
      account: cloud.account,
      time: `${this.#state.date().toISOString().slice(0, 19)}Z`,
      region: cloud.region,
      resources,
      detail,
    };
    cloud.emit(event);
  }
}
