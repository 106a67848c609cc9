import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import type { Capacity } from './capacity.ts';
import {
  architectureMismatch,
  insufficientCapacity,
  invalidParameter,
  missingParameter,
  notOffered,
} from './errors.ts';
import { instanceType } from './instance-types.ts';
import type { Instances } from './instances.ts';
import { decodeUserData, type LaunchTemplateData, templateVersion } from './launch-template.ts';
import { type LaunchVolume, parseLaunchVolumes, refuseLaunchVolume } from './launch-volumes.ts';
import type { Image, Instance, InstanceProfile, LaunchTemplate, Lifecycle, Tags } from './records.ts';
import type { Ec2State } from './state.ts';
import type { Subnet } from './subnet.ts';
import { addTags, parseTagSpecifications } from './tags.ts';

/** One way to launch: a launch template, an instance type and a subnet. */
export interface Pool {
  readonly template: LaunchTemplate;
  readonly version: number;
  readonly data: LaunchTemplateData;
  readonly type: string;
  readonly subnet: Subnet;
  /** Whether the request, rather than the template, says which subnet. */
  readonly subnetOverridden: boolean;
  readonly imageId: string;
  /** Undefined when the request names one that does not exist: then this pool cannot launch. */
  readonly image: Image | undefined;
  /** Whether the request, rather than the template, says which image. */
  readonly imageOverridden: boolean;
  readonly profile: InstanceProfile;
  /** Beside the root volume. */
  readonly volumes: readonly LaunchVolume[];
  /** base64 */
  readonly userData: string | undefined;
  /** Lower comes first. */
  readonly priority: number;
  /** What new resources are tagged with, by resource type. */
  readonly tags: ReadonlyMap<string, Tags>;
}

/** A CreateFleet request, understood. */
export interface FleetPlan {
  readonly lifecycle: Lifecycle;
  readonly strategy: string;
  readonly total: number;
  readonly pools: readonly Pool[];
  readonly fleetTags: Tags;
  readonly clientToken: string | undefined;
}

/** docs: CreateFleet, TagSpecifications; what is tagged through the launch template instead is refused. */
const FLEET_TAGGABLE = ['fleet', 'instance', 'volume'];

/** docs: CreateFleet, SpotOptions and OnDemandOptions; the first is the default */
const STRATEGIES: Readonly<Record<Lifecycle, readonly string[]>> = {
  spot: ['lowest-price', 'price-capacity-optimized', 'capacity-optimized-prioritized'],
  'on-demand': ['lowest-price', 'prioritized'],
};

/** docs: "ClientToken: up to 64 ASCII characters" */
const CLIENT_TOKEN = /^[\x21-\x7e]{1,64}$/;

/** EC2 Fleet, of type `instant`. */
export class Fleets {
  #state: Ec2State;
  #instances: Instances;
  #resolveProfile: (nameOrArn: string) => InstanceProfile;
  #capacity: Capacity;
  #answers = new Map<string, { readonly request: string; readonly answer: Shape }>();

  constructor(
    state: Ec2State,
    instances: Instances,
    capacity: Capacity,
    resolveProfile: (nameOrArn: string) => InstanceProfile,
  ) {
    this.#state = state;
    this.#instances = instances;
    this.#capacity = capacity;
    this.#resolveProfile = resolveProfile;
  }

  /** @throws AwsError or NotModelled for a request that cannot be carried out; changes nothing */
  plan(input: Shape): FleetPlan {
    onlyKnown('CreateFleet', input, [
      'Type',
      'LaunchTemplateConfigs',
      'SpotOptions',
      'OnDemandOptions',
      'TargetCapacitySpecification',
      'TagSpecifications',
      'ClientToken',
    ]);
    if (input.Type !== 'instant') throw new NotModelled(`CreateFleet: Type ${input.Type}`);
    onlyKnown('SpotOptions', input.SpotOptions, ['AllocationStrategy']);
    onlyKnown('OnDemandOptions', input.OnDemandOptions, ['AllocationStrategy']);
    const capacity = input.TargetCapacitySpecification;
    if (!capacity) throw missingParameter('TargetCapacitySpecification');
    onlyKnown('TargetCapacitySpecification', capacity, ['TotalTargetCapacity', 'DefaultTargetCapacityType']);
    const lifecycle: Lifecycle = capacity.DefaultTargetCapacityType ?? 'on-demand';
    const options = lifecycle === 'spot' ? input.SpotOptions : input.OnDemandOptions;
    const strategies = STRATEGIES[lifecycle];
    if (!strategies) throw new NotModelled(`DefaultTargetCapacityType ${lifecycle}`);
    const strategy = options?.AllocationStrategy ?? strategies[0];
    if (!strategies.includes(strategy)) throw new NotModelled(`${lifecycle} AllocationStrategy ${strategy}`);
    if (input.ClientToken !== undefined && !CLIENT_TOKEN.test(input.ClientToken))
      throw invalidParameter('The client token must be at most 64 ASCII characters.');
    const tags = parseTagSpecifications(input.TagSpecifications);
    for (const type of tags.keys()) {
      if (!FLEET_TAGGABLE.includes(type)) throw new NotModelled(`CreateFleet.TagSpecifications: ${type}`);
    }
    if (!input.LaunchTemplateConfigs?.length) throw missingParameter('LaunchTemplateConfigs');
    return {
      lifecycle,
      strategy,
      total: capacity.TotalTargetCapacity,
      pools: input.LaunchTemplateConfigs.flatMap((config: Shape) => this.#pools(config, tags)),
      fleetTags: tags.get('fleet') ?? new Map(),
      clientToken: input.ClientToken,
    };
  }

  #pools(config: Shape, requestTags: ReadonlyMap<string, Tags>): Pool[] {
    onlyKnown('LaunchTemplateConfigs', config, ['LaunchTemplateSpecification', 'Overrides']);
    const specification = config.LaunchTemplateSpecification ?? {};
    onlyKnown('LaunchTemplateSpecification', specification, [
      'LaunchTemplateId',
      'LaunchTemplateName',
      'Version',
      'LaunchTemplateSpecificationUserData',
    ]);
    if (specification.Version === undefined) throw missingParameter('Version');
    const template = this.#state.template(specification);
    const { number: version, data } = templateVersion(template, specification.Version);
    if (data.marketType !== undefined)
      throw new NotModelled('a fleet with InstanceMarketOptions in its launch template');
    if (data.instanceProfile === undefined) throw new NotModelled('an instance without an instance profile');
    const userData = specification.LaunchTemplateSpecificationUserData ?? data.userData;
    if (userData !== undefined) decodeUserData(userData);
    const profile = this.#resolveProfile(data.instanceProfile);
    return (config.Overrides ?? [{}]).map((override: Shape): Pool => {
      onlyKnown('Overrides', override, ['InstanceType', 'SubnetId', 'Priority', 'ImageId', 'BlockDeviceMappings']);
      const type = override.InstanceType ?? data.instanceType;
      const subnetId = override.SubnetId ?? data.subnetId;
      if (type === undefined) throw missingParameter('InstanceType');
      if (subnetId === undefined) throw new NotModelled('a launch without a subnet (a default VPC)');
      instanceType(type);
      const imageId = override.ImageId ?? data.imageId;
      if (imageId === undefined) throw missingParameter('ImageId');
      if (!imageId.startsWith('ami-')) throw new NotModelled(`an image that is not an AMI id: ${imageId}`);
      const imageOverridden = override.ImageId !== undefined;
      return {
        template,
        version,
        data,
        type,
        subnet: this.#state.subnet(subnetId),
        subnetOverridden: override.SubnetId !== undefined,
        imageId,
        image: imageOverridden ? this.#state.images.get(imageId) : this.#state.image(imageId),
        imageOverridden,
        profile,
        volumes: parseLaunchVolumes(override.BlockDeviceMappings, this.#state.snapshots),
        userData,
        priority: override.Priority ?? Number.POSITIVE_INFINITY,
        tags: mergeTags(data.tags, requestTags),
      };
    });
  }

  /** One attempt, as `instant` fleets make it: what could not be launched is in `Errors`. */
  create(input: Shape): Shape {
    const plan = this.plan(input);
    const request = JSON.stringify(input);
    const earlier = plan.clientToken === undefined ? undefined : this.#answers.get(plan.clientToken);
    if (earlier) {
      if (earlier.request !== request)
        throw new AwsError(
          'IdempotentParameterMismatch',
          'The client token you have provided is already used with different request parameters.',
        );
      return structuredClone(earlier.answer);
    }
    const answer = this.#launchAll(plan);
    if (plan.clientToken !== undefined) this.#answers.set(plan.clientToken, { request, answer });
    return structuredClone(answer);
  }

  #launchAll(plan: FleetPlan): Shape {
    const hex = this.#state.random.hex(32);
    const fleetId = `fleet-${[hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')}`;
    const failures: { readonly pool: Pool; readonly code: string; readonly message: string }[] = [];
    const launched: { readonly pool: Pool; readonly instances: Instance[] }[] = [];
    let missing = plan.total;
    for (const pool of inOrder(plan)) {
      const instances: Instance[] = [];
      const reservationId = this.#state.newId('r');
      while (missing > 0) {
        try {
          const image = this.#state.image(pool.imageId);
          this.#refuse(pool, image, plan);
          const index = plan.total - missing;
          instances.push(this.#launchOne(plan, pool, image, fleetId, reservationId, index, instances.length));
        } catch (error) {
          if (!(error instanceof AwsError)) throw error;
          failures.push({ pool, code: error.code, message: error.message });
          break;
        }
        missing -= 1;
      }
      if (instances.length > 0) launched.push({ pool, instances });
    }
    this.#state.cloud.record('fleet', fleetId, {
      lifecycle: plan.lifecycle,
      launched: launched.flatMap(({ instances }) => instances.map(({ id }) => id)),
      errors: failures.map(({ code, pool }) => `${pool.type}: ${code}`),
    });
    // price-capacity-optimized looks at the pools before it asks, so one that is empty is no error while another serves.
    const shown = plan.strategy === 'price-capacity-optimized' && missing === 0 ? [] : failures;
    return {
      FleetId: fleetId,
      Errors: shown.map(({ pool, code, message }) => ({
        ...renderPool(pool),
        Lifecycle: plan.lifecycle,
        ErrorCode: code,
        ErrorMessage: message,
      })),
      Instances: launched.map(({ pool, instances }) => ({
        ...renderPool(pool),
        Lifecycle: plan.lifecycle,
        InstanceIds: instances.map(({ id }) => id),
        InstanceType: pool.type,
      })),
    };
  }

  #launchOne(
    plan: FleetPlan,
    pool: Pool,
    image: Image,
    fleetId: string,
    reservationId: string,
    fleetIndex: number,
    amiLaunchIndex: number,
  ): Instance {
    const tags = new Map([...pool.tags].map(([type, of]) => [type, new Map(of)]));
    const own = tags.get('instance') ?? new Map<string, string>();
    tags.set('instance', own);
    own.set('aws:ec2:fleet-id', fleetId);
    own.set('aws:ec2launchtemplate:id', pool.template.id);
    own.set('aws:ec2launchtemplate:version', String(pool.version));
    const instance = this.#instances.launch({
      type: pool.type,
      lifecycle: plan.lifecycle,
      subnet: pool.subnet,
      image,
      profile: pool.profile,
      template: pool.data,
      volumes: pool.volumes,
      userData: pool.userData,
      tags,
      reservationId,
      amiLaunchIndex,
      clientToken: `${fleetId}-${fleetIndex}`,
    });
    this.#capacity.take(pool.type, plan.lifecycle);
    return instance;
  }

  #refuse(pool: Pool, image: Image, plan: FleetPlan): void {
    const { type, subnet } = pool;
    const { architecture } = instanceType(type);
    if (architecture !== image.architecture) throw architectureMismatch(architecture, image.architecture);
    if (pool.volumes.some(({ device }) => device === image.rootDeviceName))
      throw new NotModelled(`BlockDeviceMappings: another root volume ${image.rootDeviceName}`);
    for (const volume of pool.volumes) refuseLaunchVolume(volume);
    // Where other launches say `Unsupported`, fleets have a code of their own.
    if (!this.#capacity.isOffered(type, subnet.zone))
      throw new AwsError('InvalidFleetConfiguration', notOffered(type, subnet.zone));
    if (this.#capacity.left(type, plan.lifecycle) > 0) return;
    if (plan.lifecycle === 'on-demand') throw insufficientCapacity(type, subnet.zone);
    if (plan.strategy === 'lowest-price')
      throw new AwsError(
        'InsufficientInstanceCapacity',
        'There is no Spot capacity available that matches your request.',
      );
    throw new AwsError(
      'UnfulfillableCapacity',
      'Unable to fulfill capacity due to your request configuration. Please adjust your request and try again.',
    );
  }
}

function inOrder(plan: FleetPlan): Pool[] {
  const byPriority = plan.strategy === 'prioritized' || plan.strategy === 'capacity-optimized-prioritized';
  const rank = (pool: Pool) => (byPriority ? pool.priority : instanceType(pool.type).usdPerHour);
  // Two pools without a priority: Infinity - Infinity is NaN, so compare rather than subtract.
  return [...plan.pools].sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0));
}

function mergeTags(template: ReadonlyMap<string, Tags>, request: ReadonlyMap<string, Tags>): ReadonlyMap<string, Tags> {
  const merged = new Map([...template].map(([type, tags]) => [type, new Map(tags)]));
  for (const [type, tags] of request) {
    if (type === 'fleet') continue;
    const of = merged.get(type) ?? new Map<string, string>();
    addTags(of, tags);
    merged.set(type, of);
  }
  return merged;
}

function renderPool(pool: Pool): Shape {
  return {
    LaunchTemplateAndOverrides: {
      LaunchTemplateSpecification: { LaunchTemplateId: pool.template.id, Version: String(pool.version) },
      Overrides: {
        InstanceType: pool.type,
        SubnetId: pool.subnet.id,
        AvailabilityZone: pool.subnet.zone,
        ...(pool.imageOverridden ? { ImageId: pool.imageId } : {}),
        ...(Number.isFinite(pool.priority) ? { Priority: pool.priority } : {}),
      },
    },
  };
}
