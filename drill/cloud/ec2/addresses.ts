import { AwsError, type Shape } from '../kernel.ts';
import { invalidParameter } from './errors.ts';
import { reachGuest } from './guest.ts';
import { instanceType } from './instance-types.ts';
import type { NetworkInterface } from './records.ts';
import type { Ec2State } from './state.ts';
import type { Subnet } from './subnet.ts';

/** Private addresses of network interfaces. */
export class Addresses {
  #state: Ec2State;

  constructor(state: Ec2State) {
    this.#state = state;
  }

  /**
   * Gives secondary addresses to an interface. The answer comes at once, the network follows a little later.
   * @throws AwsError as AssignPrivateIpAddresses does; then nothing has changed
   */
  assign(to: NetworkInterface, addresses: readonly string[], allowReassignment: boolean): Shape {
    const { subnet } = to;
    for (const address of addresses) this.#refuse(to, address, allowReassignment);
    const added = addresses.filter((address) => subnet.owners.get(address) !== to);
    const type = this.#state.instances.get(to.instanceId)?.type ?? '';
    const held = [...subnet.owners.values()].filter((owner) => owner === to).length;
    if (held + added.length > instanceType(type).ipv4PerInterface)
      throw new AwsError(
        'PrivateIpAddressLimitExceeded',
        `Number of private addresses will exceed limit. Interface ${to.id} of an instance of type ${type}.`,
      );
    for (const address of added) subnet.owners.set(address, to);
    if (added.length > 0) this.#state.background(this.#remap(to, added));
    return {
      NetworkInterfaceId: to.id,
      AssignedPrivateIpAddresses: addresses.map((PrivateIpAddress) => ({ PrivateIpAddress })),
      AssignedIpv4Prefixes: [],
    };
  }

  #refuse(to: NetworkInterface, address: string, allowReassignment: boolean): void {
    const { subnet } = to;
    if (!subnet.contains(address))
      throw invalidParameter(`Address ${address} does not fall within the subnet's address range`);
    const owner = subnet.owners.get(address);
    if (!owner) return;
    if (owner.primary === address) throw invalidParameter(`${address} is the primary address of ${owner.id}`);
    if (!allowReassignment) throw new AwsError('InvalidIPAddress.InUse', `Address ${address} is in use.`);
  }

  async #remap(to: NetworkInterface, addresses: readonly string[]): Promise<void> {
    const { cloud } = this.#state;
    await cloud.clock.sleep(cloud.latency('ec2.assignPrivateIp', to.id));
    // A later request may have given an address to somebody else, or the interface may be gone.
    const current = addresses.filter(
      (address) => to.subnet.owners.get(address) === to && !to.secondary.includes(address),
    );
    const left: NetworkInterface[] = [];
    for (const address of current) {
      const from = [...this.#state.interfaces.values()].find(
        (other) => other.subnet === to.subnet && other.secondary.includes(address),
      );
      if (!from) continue;
      from.secondary = from.secondary.filter((other) => other !== address);
      this.#changed(from, address, 'unassigned');
      left.push(from);
    }
    to.secondary = [...to.secondary, ...current];
    for (const address of current) this.#changed(to, address, 'assigned');
    // The network goes over from one interface to the other; there is no moment at which it knows neither.
    for (const networkInterface of [to, ...left]) await this.#deliver(networkInterface);
  }

  /** Tells the guest which addresses the network delivers to it. */
  async #deliver(to: NetworkInterface): Promise<void> {
    const instance = this.#state.instances.get(to.instanceId);
    if (instance) await reachGuest(instance, (host) => host.setAddresses([to.primary, ...to.secondary]));
  }

  #changed(of: NetworkInterface, address: string, state: 'assigned' | 'unassigned'): void {
    this.#state.cloud.record('address', address, { interfaceId: of.id, instanceId: of.instanceId, state });
    const instance = this.#state.instances.get(of.instanceId);
    if (instance) this.#state.publishInstance(instance);
  }

  /** A primary address of its own for a new interface. @throws AwsError InsufficientFreeAddressesInSubnet */
  takePrimary(subnet: Subnet): string {
    const address = subnet.freeAddress(this.#state.random);
    if (!address)
      throw new AwsError(
        'InsufficientFreeAddressesInSubnet',
        `The specified subnet does not have enough free addresses to satisfy the request.`,
      );
    return address;
  }

  /** The interface is gone: its addresses are free again. */
  releaseAll(of: NetworkInterface): void {
    for (const [address, owner] of of.subnet.owners) if (owner === of) of.subnet.owners.delete(address);
    for (const address of of.secondary) {
      this.#state.cloud.record('address', address, {
        interfaceId: of.id,
        instanceId: of.instanceId,
        state: 'unassigned',
      });
    }
    of.secondary = [];
  }
}
