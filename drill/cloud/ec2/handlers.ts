import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import type { CreatedResource, ResourceHandler, ResourceHandlers } from '../resource.ts';
import { dependencyViolation } from './errors.ts';
import { parseLaunchTemplateData } from './launch-template.ts';
import type { LaunchTemplate } from './records.ts';
import type { Ec2State } from './state.ts';
import { parseCidr, Subnet } from './subnet.ts';
import { parseTagSpecifications, parseTags } from './tags.ts';
import type { Volumes } from './volumes.ts';

/** How CloudFormation makes the resource types of EC2. */
export function ec2Handlers(state: Ec2State, volumes: Volumes): ResourceHandlers {
  return {
    ...networkHandlers(state),
    'AWS::EC2::Subnet': subnetHandler(state),
    'AWS::EC2::SubnetCidrReservation': cidrReservationHandler(state),
    'AWS::EC2::Volume': volumeHandler(state, volumes),
    'AWS::EC2::LaunchTemplate': launchTemplateHandler(state),
  };
}

/** Resources that only have to be there: what is in them has no effect on what the model does. */
function networkHandlers(state: Ec2State): ResourceHandlers {
  const plain = (
    kind: string,
    prefix: string,
    properties: readonly string[],
    attributes: (id: string, given: Shape) => Record<string, string>,
  ): ResourceHandler => ({
    create(_logicalId, given) {
      onlyKnown(kind, given, properties);
      const id = state.newId(prefix);
      state.networkResources.set(id, { id, kind, tags: parseTags(given.Tags) });
      return { ref: id, attributes: attributes(id, given) };
    },
    delete({ ref }) {
      state.networkResources.delete(ref);
    },
  });
  const vpc = plain(
    'VPC',
    'vpc',
    ['CidrBlock', 'EnableDnsHostnames', 'EnableDnsSupport', 'InstanceTenancy', 'Tags'],
    (VpcId, given) => ({
      VpcId,
      CidrBlock: given.CidrBlock,
      DefaultSecurityGroup: state.newId('sg'),
      DefaultNetworkAcl: state.newId('acl'),
    }),
  );
  return {
    'AWS::EC2::VPC': {
      ...vpc,
      delete(created) {
        if ([...state.subnets.values()].some(({ vpcId }) => vpcId === created.ref))
          throw dependencyViolation('vpc', created.ref);
        return vpc.delete(created);
      },
    },
    'AWS::EC2::InternetGateway': plain('InternetGateway', 'igw', ['Tags'], (id) => ({ InternetGatewayId: id })),
    'AWS::EC2::VPCGatewayAttachment': plain('VPCGatewayAttachment', 'vpcgwa', ['VpcId', 'InternetGatewayId'], () => ({
      AttachmentType: 'IGW',
    })),
    'AWS::EC2::RouteTable': plain('RouteTable', 'rtb', ['VpcId', 'Tags'], (id) => ({ RouteTableId: id })),
    'AWS::EC2::Route': plain('Route', 'route', ['RouteTableId', 'DestinationCidrBlock', 'GatewayId'], (_, given) => ({
      CidrBlock: given.DestinationCidrBlock,
    })),
    'AWS::EC2::SubnetRouteTableAssociation': plain(
      'SubnetRouteTableAssociation',
      'rtbassoc',
      ['RouteTableId', 'SubnetId'],
      (id) => ({ Id: id }),
    ),
    'AWS::EC2::SecurityGroup': securityGroupHandler(state, plain),
    'AWS::EC2::SecurityGroupIngress': plain(
      'SecurityGroupIngress',
      'sgr',
      [...RULE, 'GroupId', 'SourceSecurityGroupId'],
      (id) => ({
        Id: id,
      }),
    ),
    'AWS::EC2::SecurityGroupEgress': plain(
      'SecurityGroupEgress',
      'sgr',
      [...RULE, 'GroupId', 'DestinationSecurityGroupId'],
      (id) => ({
        Id: id,
      }),
    ),
  };
}

/** The properties that all security group rules have. */
const RULE = ['Description', 'IpProtocol', 'FromPort', 'ToPort', 'CidrIp', 'CidrIpv6'];

type Plain = (
  kind: string,
  prefix: string,
  properties: readonly string[],
  attributes: (id: string, given: Shape) => Record<string, string>,
) => ResourceHandler;

function securityGroupHandler(state: Ec2State, plain: Plain): ResourceHandler {
  const group = plain(
    'SecurityGroup',
    'sg',
    ['GroupDescription', 'GroupName', 'SecurityGroupIngress', 'SecurityGroupEgress', 'VpcId', 'Tags'],
    (id, given) => ({ GroupId: id, Id: id, VpcId: given.VpcId }),
  );
  return {
    create(logicalId, given, stack) {
      for (const rule of given.SecurityGroupIngress ?? []) {
        onlyKnown('SecurityGroupIngress', rule, [...RULE, 'SourceSecurityGroupId']);
      }
      for (const rule of given.SecurityGroupEgress ?? []) {
        onlyKnown('SecurityGroupEgress', rule, [...RULE, 'DestinationSecurityGroupId']);
      }
      return group.create(logicalId, given, stack);
    },
    delete(created) {
      for (const { securityGroups } of state.interfaces.values()) {
        if (securityGroups.includes(created.ref))
          throw new AwsError('DependencyViolation', `resource ${created.ref} has a dependent object`);
      }
      return group.delete(created);
    },
  };
}

function subnetHandler(state: Ec2State): ResourceHandler {
  return {
    create(_logicalId, given) {
      onlyKnown('AWS::EC2::Subnet', given, ['AvailabilityZone', 'CidrBlock', 'MapPublicIpOnLaunch', 'VpcId', 'Tags']);
      if (!given.AvailabilityZone) throw new NotModelled('a subnet without AvailabilityZone');
      const subnet = new Subnet({
        id: state.newId('subnet'),
        vpcId: given.VpcId,
        zone: given.AvailabilityZone,
        cidrBlock: given.CidrBlock,
        mapPublicIpOnLaunch: given.MapPublicIpOnLaunch ?? false,
        tags: parseTags(given.Tags),
      });
      state.subnets.set(subnet.id, subnet);
      return {
        ref: subnet.id,
        attributes: {
          SubnetId: subnet.id,
          VpcId: subnet.vpcId,
          AvailabilityZone: subnet.zone,
          CidrBlock: subnet.cidrBlock,
          NetworkAclAssociationId: state.newId('aclassoc'),
        },
      };
    },
    delete({ ref }) {
      if (state.subnet(ref).owners.size > 0) throw dependencyViolation('subnet', ref);
      state.subnets.delete(ref);
    },
  };
}

function cidrReservationHandler(state: Ec2State): ResourceHandler {
  return {
    create(_logicalId, given) {
      onlyKnown('AWS::EC2::SubnetCidrReservation', given, [
        'Cidr',
        'Description',
        'ReservationType',
        'SubnetId',
        'Tags',
      ]);
      if (given.ReservationType !== 'explicit')
        throw new NotModelled(`a subnet CIDR reservation of type ${given.ReservationType}`);
      const id = state.newId('scr');
      state.subnet(given.SubnetId).reservations.set(id, parseCidr(given.Cidr));
      return { ref: id, attributes: { SubnetCidrReservationId: id, OwnerId: state.cloud.account } };
    },
    delete({ ref }) {
      for (const subnet of state.subnets.values()) subnet.reservations.delete(ref);
    },
  };
}

function volumeHandler(state: Ec2State, volumes: Volumes): ResourceHandler {
  return {
    async create(_logicalId, given) {
      onlyKnown('AWS::EC2::Volume', given, [
        'AvailabilityZone',
        'Size',
        'VolumeType',
        'Iops',
        'Throughput',
        'Encrypted',
        'SnapshotId',
        'Tags',
      ]);
      const snapshot = given.SnapshotId === undefined ? undefined : state.snapshot(given.SnapshotId);
      const volume = volumes.create({
        zone: given.AvailabilityZone,
        sizeGiB: Number(given.Size ?? snapshot?.sizeGiB),
        type: given.VolumeType,
        iops: given.Iops,
        throughput: given.Throughput,
        encrypted: snapshot?.encrypted ?? given.Encrypted ?? false,
        snapshotId: snapshot?.id,
        tags: parseTags(given.Tags),
      });
      await volumes.untilAvailable(volume);
      return { ref: volume.id, attributes: { VolumeId: volume.id } };
    },
    delete({ ref }) {
      volumes.delete(state.volume(ref));
    },
  };
}

function launchTemplateHandler(state: Ec2State): ResourceHandler {
  const properties = ['LaunchTemplateData', 'LaunchTemplateName', 'TagSpecifications', 'VersionDescription'];
  const addVersion = (template: LaunchTemplate, given: Shape) =>
    template.versions.push({
      data: parseLaunchTemplateData(given.LaunchTemplateData),
      description: given.VersionDescription,
      createTime: state.date(),
    });
  return {
    create(logicalId, given, stack): CreatedResource {
      onlyKnown('AWS::EC2::LaunchTemplate', given, properties);
      const template: LaunchTemplate = {
        id: state.newId('lt'),
        name: given.LaunchTemplateName ?? stack.physicalName(logicalId),
        createTime: state.date(),
        tags: parseTagSpecifications(given.TagSpecifications).get('launch-template') ?? new Map(),
        versions: [],
      };
      addVersion(template, given);
      state.templates.set(template.id, template);
      return {
        ref: template.id,
        attributes: {
          LaunchTemplateId: template.id,
          DefaultVersionNumber: '1',
          // An update makes a new version, and GetAtt follows.
          get LatestVersionNumber() {
            return String(template.versions.length);
          },
        },
      };
    },
    update({ ref }, given, previous) {
      onlyKnown('AWS::EC2::LaunchTemplate', given, properties);
      if (given.LaunchTemplateName !== previous.LaunchTemplateName) throw new NotModelled('a renamed launch template');
      addVersion(state.template({ LaunchTemplateId: ref }), given);
    },
    delete({ ref }) {
      state.templates.delete(ref);
    },
  };
}
