import { Tags, Validations } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import { Construct } from 'constructs';

export interface NetworkProps {
  /** Availability zones that need a subnet. */
  readonly zones: readonly string[];
}

/** A subnet, and the block of it out of which EC2 gives no address by itself. */
export interface HostSubnet {
  readonly subnetId: string;
  /** The floating addresses of the databases in this zone are taken from here, in order. */
  readonly reserved: readonly string[];
}

/** 10.77.0.0/16: a private range (RFC 1918) that is rarely another network's default. */
const VPC_CIDR = '10.77.0.0/16';

/**
 * A small network: one public subnet a zone, no NAT gateway and no interface endpoints, since each costs more than the
 * host. Nothing in it accepts a connection from outside unless a security group says so.
 */
export class Network extends Construct {
  readonly vpcId: string;
  readonly cidr = VPC_CIDR;
  readonly #subnets = new Map<string, HostSubnet>();

  constructor(scope: Construct, id: string, { zones }: NetworkProps) {
    super(scope, id);
    const vpc = new ec2.CfnVPC(this, 'Vpc', { cidrBlock: VPC_CIDR, enableDnsHostnames: true, enableDnsSupport: true });
    Tags.of(vpc).add('Name', 'keeper');
    Validations.of(vpc).acknowledge({
      id: 'AwsSolutions-VPC7',
      reason:
        'Only configured clients reach anything here, and that is port 5432; a flow log is paid for whether read or not.',
    });
    this.vpcId = vpc.ref;
    const gateway = new ec2.CfnInternetGateway(this, 'InternetGateway');
    const attachment = new ec2.CfnVPCGatewayAttachment(this, 'GatewayAttachment', {
      vpcId: vpc.ref,
      internetGatewayId: gateway.ref,
    });
    const routes = new ec2.CfnRouteTable(this, 'Routes', { vpcId: vpc.ref });
    new ec2.CfnRoute(this, 'ToInternet', {
      routeTableId: routes.ref,
      destinationCidrBlock: '0.0.0.0/0',
      gatewayId: gateway.ref,
    }).addResourceDependency(attachment);
    for (const zone of zones) {
      // By the zone's letter, so that a zone keeps its addresses when another one joins.
      const third = zone.charCodeAt(zone.length - 1) - 'a'.charCodeAt(0);
      const subnet = new ec2.CfnSubnet(this, `Subnet${zone.at(-1)}`, {
        vpcId: vpc.ref,
        availabilityZone: zone,
        cidrBlock: `10.77.${third}.0/24`,
        mapPublicIpOnLaunch: true,
      });
      Validations.of(subnet).acknowledge({
        id: 'CloudFormation-Validate::W3010',
        reason: 'The zone is configuration: a volume lives in one zone, and its hosts live with it.',
      });
      new ec2.CfnSubnetRouteTableAssociation(this, `Routes${zone.at(-1)}`, {
        subnetId: subnet.ref,
        routeTableId: routes.ref,
      });
      // EC2 gives no host an address out of an `explicit` reservation, so the floating ones are never taken.
      new ec2.CfnSubnetCidrReservation(this, `Reserved${zone.at(-1)}`, {
        subnetId: subnet.ref,
        cidr: `10.77.${third}.16/28`,
        reservationType: 'explicit',
      });
      const reserved = Array.from({ length: 16 }, (_, i) => `10.77.${third}.${16 + i}`);
      this.#subnets.set(zone, { subnetId: subnet.ref, reserved });
    }
  }

  /** @throws Error for a zone that the network was not made for */
  subnetOf(zone: string): HostSubnet {
    const subnet = this.#subnets.get(zone);
    if (!subnet) throw new Error(`the network has no subnet in ${zone}`);
    return subnet;
  }
}
