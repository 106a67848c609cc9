import type { Random } from '../random.ts';
import { invalidParameter } from './errors.ts';
import type { NetworkInterface, Tags } from './records.ts';

/** A block of IPv4 addresses. */
export interface Cidr {
  readonly first: number;
  readonly size: number;
}

/**
 * @param text e.g. `10.0.1.0/24`
 * @throws AwsError InvalidParameterValue
 */
export function parseCidr(text: string): Cidr {
  const [address, bits] = text.split('/');
  const length = Number(bits);
  if (address === undefined || !Number.isInteger(length) || length < 0 || length > 32)
    throw invalidParameter(`Value (${text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`);
  return { first: parseAddress(address), size: 2 ** (32 - length) };
}

/** @throws AwsError InvalidParameterValue */
export function parseAddress(text: string): number {
  const parts = text.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255))
    throw invalidParameter(`Value (${text}) for parameter privateIpAddress is invalid.`);
  return parts.reduce((value, part) => value * 256 + part, 0);
}

export function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

const within = (cidr: Cidr, address: number) => address >= cidr.first && address < cidr.first + cidr.size;

/** AWS keeps the first four addresses and the last one of every subnet. */
const RESERVED_AT_START = 4;

export class Subnet {
  readonly id: string;
  readonly vpcId: string;
  readonly zone: string;
  readonly cidrBlock: string;
  readonly mapPublicIpOnLaunch: boolean;
  readonly tags: Tags;
  /** Who an address belongs to, from the moment of the call that gave it; the network follows a little later. */
  readonly owners = new Map<string, NetworkInterface>();
  /** Blocks from which EC2 gives no address by itself (AWS::EC2::SubnetCidrReservation). */
  readonly reservations = new Map<string, Cidr>();
  #cidr: Cidr;

  constructor(options: {
    readonly id: string;
    readonly vpcId: string;
    readonly zone: string;
    readonly cidrBlock: string;
    readonly mapPublicIpOnLaunch: boolean;
    readonly tags: Tags;
  }) {
    this.id = options.id;
    this.vpcId = options.vpcId;
    this.zone = options.zone;
    this.cidrBlock = options.cidrBlock;
    this.mapPublicIpOnLaunch = options.mapPublicIpOnLaunch;
    this.tags = options.tags;
    this.#cidr = parseCidr(options.cidrBlock);
  }

  /** Whether an interface of this subnet can have the address. */
  contains(address: string): boolean {
    const value = parseAddress(address);
    return value >= this.#cidr.first + RESERVED_AT_START && value < this.#cidr.first + this.#cidr.size - 1;
  }

  /** A free address outside the reservations, or undefined when there is none. */
  freeAddress(random: Random): string | undefined {
    const usable = this.#cidr.size - RESERVED_AT_START - 1;
    const start = random.below(usable);
    const reserved = [...this.reservations.values()];
    for (let i = 0; i < usable; i++) {
      const value = this.#cidr.first + RESERVED_AT_START + ((start + i) % usable);
      const address = formatAddress(value);
      if (!this.owners.has(address) && !reserved.some((cidr) => within(cidr, value))) return address;
    }
    return undefined;
  }
}
