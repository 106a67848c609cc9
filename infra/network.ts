import { Tags, Validations } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import { Construct } from 'constructs';
import { addressesOf } from './addresses.ts';

export interface NetworkProps {
  /** Availability zones that need a subnet. */
  readonly zones: readonly string[];
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
  /** By zone. */
  readonly #subnetIds = new Map<string, string>();

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
      const { subnet: cidrBlock, reserved } = addressesOf(zone);
      const subnet = new ec2.CfnSubnet(this, `Subnet${zone.at(-1)}`, {
        vpcId: vpc.ref,
        availabilityZone: zone,
        cidrBlock,
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
        cidr: reserved,
        reservationType: 'explicit',
      });
      this.#subnetIds.set(zone, subnet.ref);
    }
  }

  /** @throws Error for a zone that the network was not made for */
  subnetIdOf(zone: string): string {
    const subnetId = this.#subnetIds.get(zone);
    if (!subnetId) throw new Error(`the network has no subnet in ${zone}`);
    return subnetId;
  }
}
