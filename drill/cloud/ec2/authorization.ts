import type { Authorization, Cloud } from '../kernel.ts';
import type { FleetPlan, Pool } from './fleet.ts';
import type { Instance, NetworkInterface, Snapshot, Tags, Volume } from './records.ts';

type Context = Record<string, string | readonly string[]>;

/**
 * What IAM evaluates for a request: actions, resources and condition keys as in the Service Authorization Reference
 * for Amazon EC2 (docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html).
 */
export class Authorizations {
  #cloud: Cloud;

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
  }

  /** An action without resource types, as all Describe actions are. */
  onAnything(action: string): Authorization[] {
    return [this.#on(action, '*', {})];
  }

  onInstance(action: string, instance: Instance): Authorization {
    return this.#on(action, this.#arn('instance', instance.id), {
      ...resourceTags(instance.tags),
      ...instanceContext(instance.type, instance.profile.arn, instance.identity.zone),
      'ec2:InstanceID': instance.id,
    });
  }

  /** ModifyInstanceAttribute, of which only another instance type is modelled. */
  changeType(instance: Instance, type: string | undefined): Authorization {
    const { context, ...authorization } = this.onInstance('ec2:ModifyInstanceAttribute', instance);
    return {
      ...authorization,
      context: { ...context, 'ec2:Attribute': 'InstanceType', 'ec2:Attribute/InstanceType': type ?? '' },
    };
  }

  onVolume(action: string, volume: Volume): Authorization {
    return this.#on(action, this.#arn('volume', volume.id), {
      ...resourceTags(volume.tags),
      ...volumeContext(volume),
      'ec2:VolumeID': volume.id,
    });
  }

  onInterface(action: string, networkInterface: NetworkInterface): Authorization {
    const { subnet } = networkInterface;
    return this.#on(action, this.#arn('network-interface', networkInterface.id), {
      ...resourceTags(networkInterface.tags),
      'ec2:AvailabilityZone': subnet.zone,
      'ec2:NetworkInterfaceID': networkInterface.id,
      'ec2:Subnet': this.#arn('subnet', subnet.id),
      'ec2:Vpc': this.#arn('vpc', subnet.vpcId),
    });
  }

  onSnapshot(action: string, snapshot: Snapshot): Authorization {
    return this.#on(action, this.#snapshotArn(snapshot.id), {
      ...resourceTags(snapshot.tags),
      'ec2:Owner': this.#cloud.account,
      'ec2:ParentVolume': this.#arn('volume', snapshot.volumeId),
      'ec2:VolumeSize': String(snapshot.sizeGiB),
    });
  }

  /** CreateTags and DeleteTags on something that exists. */
  onTags(
    action: 'ec2:CreateTags' | 'ec2:DeleteTags',
    type: string,
    id: string,
    own: Tags,
    requested: Tags,
  ): Authorization {
    const arn = type === 'snapshot' ? this.#snapshotArn(id) : this.#arn(type, id);
    return this.#on(action, arn, { ...resourceTags(own), ...requestTags(requested) });
  }

  /** A new volume, with its tags. */
  createVolume(tags: Tags, volume: { readonly zone: string; readonly sizeGiB: number; readonly encrypted: boolean }) {
    const arn = this.#arn('volume', '*');
    const context = { ...requestTags(tags), ...volumeContext({ ...volume, type: 'gp3' }) };
    return [this.#on('ec2:CreateVolume', arn, context), ...this.#tagNew(arn, tags, ['CreateVolume'])];
  }

  /** A new snapshot, with its tags. */
  createSnapshot(volume: Volume, tags: Tags): Authorization[] {
    const arn = this.#snapshotArn('*');
    const { 'ec2:AvailabilityZone': _, ...source } = volumeContext(volume);
    return [
      this.#on('ec2:CreateSnapshot', arn, {
        ...requestTags(tags),
        'ec2:ParentVolume': this.#arn('volume', volume.id),
        'ec2:VolumeSize': String(volume.sizeGiB),
      }),
      this.#on('ec2:CreateSnapshot', this.#arn('volume', volume.id), {
        ...resourceTags(volume.tags),
        ...source,
        'ec2:VolumeID': volume.id,
      }),
      ...this.#tagNew(arn, tags, ['CreateSnapshot']),
    ];
  }

  /**
   * An instant fleet needs CreateFleet itself, RunInstances on everything that a launch touches, CreateTags for each
   * kind of new resource that gets tags, and PassRole for the instance profile's role. EC2 reports a refused launch
   * in `Errors` of the answer; here the whole request is refused, which nobody overlooks.
   */
  createFleet(plan: FleetPlan): Authorization[] {
    const all = [
      this.#on('ec2:CreateFleet', this.#arn('fleet', '*'), requestTags(plan.fleetTags)),
      ...this.#tagNew(this.#arn('fleet', '*'), plan.fleetTags, ['CreateFleet']),
      ...plan.pools.flatMap((pool) => this.#launch(pool, plan)),
    ];
    return [...new Map(all.map((one) => [JSON.stringify(one), one])).values()];
  }

  #launch(pool: Pool, plan: FleetPlan): Authorization[] {
    const { data, subnet, imageId, profile, template } = pool;
    const tagsOf = (type: string): Tags => pool.tags.get(type) ?? new Map();
    const templateArn = this.#arn('launch-template', template.id);
    const fromTemplate = (is: boolean) => ({
      'ec2:LaunchTemplate': templateArn,
      'ec2:IsLaunchTemplateResource': String(is),
    });
    const instanceArn = this.#arn('instance', '*');
    const volumeArn = this.#arn('volume', '*');
    const interfaceArn = this.#arn('network-interface', '*');
    const spotArn = this.#arn('spot-instances-request', '*');
    const subnetArn = this.#arn('subnet', subnet.id);
    const imageArn = `arn:aws:ec2:${this.#cloud.region}::image/${imageId}`;
    const newVolumes = pool.volumes.map(({ snapshotId, ...facts }) => ({
      ...requestTags(tagsOf('volume')),
      ...volumeContext({ ...facts, zone: subnet.zone }),
      'ec2:ParentSnapshot': this.#snapshotArn(snapshotId),
    }));
    const instance = {
      ...requestTags(tagsOf('instance')),
      ...instanceContext(pool.type, profile.arn, subnet.zone),
    };
    const volume = {
      ...requestTags(tagsOf('volume')),
      ...volumeContext({
        zone: subnet.zone,
        sizeGiB: data.root?.sizeGiB ?? pool.image?.rootGiB ?? 0,
        encrypted: data.root?.encrypted ?? false,
        type: data.root?.type ?? 'gp3',
      }),
    };
    const onSubnet = {
      ...resourceTags(subnet.tags),
      'ec2:AvailabilityZone': subnet.zone,
      'ec2:SubnetID': subnet.id,
      'ec2:Vpc': this.#arn('vpc', subnet.vpcId),
    };
    const onImage = { 'ec2:ImageID': imageId, 'ec2:RootDeviceType': 'ebs' };
    const onTemplate = resourceTags(template.tags);
    return [
      this.#on('ec2:CreateFleet', instanceArn, instance),
      this.#on('ec2:CreateFleet', volumeArn, volume),
      ...newVolumes.map((context) => this.#on('ec2:CreateFleet', volumeArn, context)),
      this.#on('ec2:CreateFleet', subnetArn, onSubnet),
      this.#on('ec2:CreateFleet', imageArn, onImage),
      this.#on('ec2:CreateFleet', templateArn, onTemplate),
      this.#on('ec2:RunInstances', instanceArn, {
        ...instance,
        ...fromTemplate(true),
        ...metadataContext(data.metadataOptions),
        'ec2:InstanceMarketType': plan.lifecycle,
      }),
      this.#on('ec2:RunInstances', volumeArn, { ...volume, ...fromTemplate(true) }),
      ...newVolumes.map((context) => this.#on('ec2:RunInstances', volumeArn, { ...context, ...fromTemplate(false) })),
      ...pool.volumes.flatMap((one) => this.#launchFrom(one.snapshot, fromTemplate(false))),
      this.#on('ec2:RunInstances', interfaceArn, {
        ...requestTags(tagsOf('network-interface')),
        ...fromTemplate(true),
        'ec2:AvailabilityZone': subnet.zone,
        'ec2:Subnet': subnetArn,
        'ec2:Vpc': this.#arn('vpc', subnet.vpcId),
        'ec2:AssociatePublicIpAddress': String(data.associatePublicIp ?? subnet.mapPublicIpOnLaunch),
      }),
      this.#on('ec2:RunInstances', subnetArn, { ...onSubnet, ...fromTemplate(!pool.subnetOverridden) }),
      this.#on('ec2:RunInstances', imageArn, { ...onImage, ...fromTemplate(!pool.imageOverridden) }),
      this.#on('ec2:RunInstances', templateArn, { ...onTemplate, ...fromTemplate(false) }),
      ...data.securityGroups.map((id) =>
        this.#on('ec2:RunInstances', this.#arn('security-group', id), {
          ...fromTemplate(true),
          'ec2:SecurityGroupID': id,
          'ec2:Vpc': this.#arn('vpc', subnet.vpcId),
        }),
      ),
      ...(data.keyName === undefined
        ? []
        : [
            this.#on('ec2:RunInstances', this.#arn('key-pair', data.keyName), {
              ...fromTemplate(true),
              'ec2:KeyPairName': data.keyName,
            }),
          ]),
      ...(plan.lifecycle === 'spot'
        ? [this.#on('ec2:RunInstances', spotArn, requestTags(tagsOf('spot-instances-request')))]
        : []),
      ...this.#tagNew(instanceArn, tagsOf('instance'), LAUNCH_ACTIONS),
      ...this.#tagNew(volumeArn, tagsOf('volume'), LAUNCH_ACTIONS),
      ...this.#tagNew(interfaceArn, tagsOf('network-interface'), LAUNCH_ACTIONS),
      ...(plan.lifecycle === 'spot' ? this.#tagNew(spotArn, tagsOf('spot-instances-request'), LAUNCH_ACTIONS) : []),
      { action: 'iam:PassRole', resource: profile.roleArn, context: { 'iam:PassedToService': 'ec2.amazonaws.com' } },
    ];
  }

  /** A snapshot that does not exist is refused later, as what does not exist. */
  #launchFrom(snapshot: Snapshot | undefined, fromTemplate: Context): Authorization[] {
    if (!snapshot) return [];
    const { context, ...authorization } = this.onSnapshot('ec2:RunInstances', snapshot);
    return [{ ...authorization, context: { ...context, ...fromTemplate, 'ec2:SnapshotID': snapshot.id } }];
  }

  /** Tags at creation need CreateTags as well; which request made the resource is a condition key. */
  #tagNew(resource: string, tags: Tags, createActions: readonly string[]): Authorization[] {
    if (tags.size === 0) return [];
    return createActions.map((action) =>
      this.#on('ec2:CreateTags', resource, { ...requestTags(tags), 'ec2:CreateAction': action }),
    );
  }

  #on(action: string, resource: string, context: Context): Authorization {
    return { action, resource, context: { 'ec2:Region': this.#cloud.region, ...context } };
  }

  #arn(type: string, id: string): string {
    return this.#cloud.arn('ec2', `${type}/${id}`);
  }

  #snapshotArn(id: string): string {
    return `arn:aws:ec2:${this.#cloud.region}::snapshot/${id}`;
  }
}

/**
 * AWS does not document which of the two an instant fleet's launches carry in ec2:CreateAction, so a policy has to
 * allow both.
 */
const LAUNCH_ACTIONS = ['CreateFleet', 'RunInstances'];

function resourceTags(tags: Tags): Context {
  return Object.fromEntries(
    [...tags].flatMap(([key, value]) => [
      [`aws:ResourceTag/${key}`, value],
      [`ec2:ResourceTag/${key}`, value],
    ]),
  );
}

function requestTags(tags: Tags): Context {
  if (tags.size === 0) return {};
  return {
    ...Object.fromEntries([...tags].map(([key, value]) => [`aws:RequestTag/${key}`, value])),
    'aws:TagKeys': [...tags.keys()],
  };
}

function instanceContext(type: string, profileArn: string, zone: string): Context {
  return {
    'ec2:AvailabilityZone': zone,
    'ec2:InstanceProfile': profileArn,
    'ec2:InstanceType': type,
    'ec2:RootDeviceType': 'ebs',
    'ec2:Tenancy': 'default',
  };
}

interface VolumeFacts {
  readonly zone: string;
  readonly sizeGiB: number;
  readonly encrypted: boolean;
  readonly type: string;
}

function volumeContext(volume: VolumeFacts): Context {
  return {
    'ec2:AvailabilityZone': volume.zone,
    'ec2:Encrypted': String(volume.encrypted),
    'ec2:VolumeSize': String(volume.sizeGiB),
    'ec2:VolumeType': volume.type,
  };
}

function metadataContext(options: { HttpTokens?: string; HttpEndpoint?: string; HttpPutResponseHopLimit?: number }) {
  return {
    ...(options.HttpTokens === undefined ? {} : { 'ec2:MetadataHttpTokens': options.HttpTokens }),
    ...(options.HttpEndpoint === undefined ? {} : { 'ec2:MetadataHttpEndpoint': options.HttpEndpoint }),
    ...(options.HttpPutResponseHopLimit === undefined
      ? {}
      : { 'ec2:MetadataHttpPutResponseHopLimit': String(options.HttpPutResponseHopLimit) }),
  };
}
