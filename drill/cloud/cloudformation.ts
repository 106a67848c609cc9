import { readFileSync } from 'node:fs';
import { join, resolve as resolvePath } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { holds, NO_VALUE, references, resolve, type Scope } from './intrinsics.ts';
import { AwsError, type Cloud, NotModelled, onlyKnown, type Shape } from './kernel.ts';
import type { CreatedResource, ResourceHandler, ResourceHandlers, StackContext } from './resource.ts';

export interface CloudFormationOptions {
  /** The value of a public or own SSM parameter, for template parameters of type `AWS::SSM::Parameter::Value<…>`. */
  resolveSsmParameter(name: string): string;
}

/** A stack as `cdk synth` leaves it. */
export interface SynthesizedStack {
  readonly name: string;
  /** `aws://<account>/<region>`, each of which may be unknown */
  readonly environment: string;
  readonly template: Shape;
  /** Values that the app gives to template parameters. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Absolute path of each asset, by its object key. */
  readonly assets: ReadonlyMap<string, string>;
}

export interface DeployedResource extends CreatedResource {
  readonly logicalId: string;
  readonly type: string;
  /** with all intrinsics resolved */
  readonly properties: Shape;
  readonly deletionPolicy: string;
}

export interface DeployedStack {
  readonly name: string;
  /** By logical id, in the order of their creation. */
  readonly resources: ReadonlyMap<string, DeployedResource>;
  readonly outputs: Readonly<Record<string, string>>;
}

interface Stack extends DeployedStack {
  readonly id: string;
  readonly resources: Map<string, DeployedResource>;
  source: SynthesizedStack;
  outputs: Record<string, string>;
  /** Values by export name. */
  exports: Record<string, string>;
  /** The exports of other stacks that this one uses. */
  imports: Set<string>;
}

/** CDK's own resource, which reports the constructs in use to AWS: it is nothing that could run. */
const CDK_METADATA = 'AWS::CDK::Metadata';

/** Zones of the region that have a default subnet, which is what Fn::GetAZs gives. */
const ZONE_LETTERS = ['a', 'b', 'c'];

/** Deploys what `cdk synth` makes: templates become resources of the local cloud. */
export class CloudFormation {
  readonly #cloud: Cloud;
  readonly #handlers: ResourceHandlers;
  readonly #options: CloudFormationOptions;
  readonly #stacks = new Map<string, Stack>();

  constructor(cloud: Cloud, handlers: ResourceHandlers, options: CloudFormationOptions) {
    this.#cloud = cloud;
    this.#handlers = handlers;
    this.#options = options;
  }

  /** Deploys all stacks of a cloud assembly, those first that others depend on. */
  async deploy(assemblyDirectory: string): Promise<DeployedStack[]> {
    const deployed: DeployedStack[] = [];
    for (const stack of readAssembly(assemblyDirectory)) deployed.push(await this.deployStack(stack));
    return deployed;
  }

  /**
   * Creates the stack, or updates the one of this name: new resources are created, changed ones updated in place,
   * those that are gone from the template deleted. A creation that fails is rolled back; an update that fails is not.
   * @throws AwsError of the resource that failed; NotModelled for resource types, attributes and functions
   */
  async deployStack(source: SynthesizedStack): Promise<DeployedStack> {
    this.#checkEnvironment(source);
    checkTemplate(source.template);
    const existing = this.#stacks.get(source.name);
    const stack = existing ?? this.#newStack(source);
    stack.source = source;
    const action = existing ? 'UPDATE' : 'CREATE';
    this.#cloud.record('stack', stack.name, { status: `${action}_IN_PROGRESS` });
    try {
      await this.#apply(stack);
    } catch (error) {
      this.#cloud.record('stack', stack.name, { status: `${action}_FAILED`, reason: String(error) });
      if (!existing) await this.#rollBack(stack);
      throw error;
    }
    this.#stacks.set(stack.name, stack);
    this.#cloud.record('stack', stack.name, { status: `${action}_COMPLETE` });
    return stack;
  }

  /**
   * Deletes the stack's resources in the reverse order of their creation, but keeps those with DeletionPolicy Retain.
   * @throws AwsError ValidationError when the stack does not exist, or another one imports what it exports
   */
  async destroy(stackName: string): Promise<void> {
    const stack = this.#stacks.get(stackName);
    if (!stack) throw new AwsError('ValidationError', `Stack with id ${stackName} does not exist`);
    for (const other of this.#stacks.values()) {
      const used = Object.keys(stack.exports).find((name) => other.imports.has(name));
      if (used === undefined) continue;
      throw new AwsError('ValidationError', `Export ${used} cannot be deleted as it is in use by ${other.name}`);
    }
    await this.#delete(stack, (resource) => !isRetained(resource));
    this.#stacks.delete(stackName);
    this.#cloud.record('stack', stackName, { status: 'DELETE_COMPLETE' });
  }

  #newStack(source: SynthesizedStack): Stack {
    const id = this.#cloud.arn(
      'cloudformation',
      `stack/${source.name}/${this.#cloud.random.fork(source.name).hex(32)}`,
    );
    return { id, name: source.name, source, resources: new Map(), outputs: {}, exports: {}, imports: new Set() };
  }

  #checkEnvironment({ name, environment }: SynthesizedStack): void {
    const [account, region] = environment.slice('aws://'.length).split('/');
    for (const [wanted, actual] of [
      [account, this.#cloud.account],
      [region, this.#cloud.region],
    ]) {
      if (wanted?.startsWith('unknown-') || wanted === actual) continue;
      throw new NotModelled(`the stack ${name} is made for ${environment}, the local cloud is ${actual}`);
    }
  }

  async #apply(stack: Stack): Promise<void> {
    const { template } = stack.source;
    const scope = this.#scope(stack);
    const wanted = creationOrder(template, scope);
    stack.imports.clear();
    for (const logicalId of wanted) await this.#createOrUpdate(stack, logicalId, scope);
    const gone = [...stack.resources.values()].filter(({ logicalId }) => !wanted.includes(logicalId));
    for (const resource of gone.filter(isRetained)) stack.resources.delete(resource.logicalId);
    await this.#delete(stack, (resource) => gone.includes(resource));
    stack.outputs = {};
    stack.exports = {};
    for (const [name, output] of Object.entries<Shape>(template.Outputs ?? {})) {
      onlyKnown(`output ${name}`, output, ['Condition', 'Description', 'Export', 'Value']);
      if (output.Condition && !scope.condition(output.Condition)) continue;
      const value = String(resolve(output.Value, scope));
      stack.outputs[name] = value;
      if (output.Export) stack.exports[String(resolve(output.Export.Name, scope))] = value;
    }
  }

  async #createOrUpdate(stack: Stack, logicalId: string, scope: Scope): Promise<void> {
    const declared = stack.source.template.Resources[logicalId];
    try {
      const handler = this.#handlers[declared.Type];
      if (!handler) throw new NotModelled(`resource type ${declared.Type}`);
      const properties: Shape = resolve(declared.Properties ?? {}, scope);
      const existing = stack.resources.get(logicalId);
      const context = this.#contextOf(stack, declared);
      const created = existing
        ? await updated(handler, existing, declared.Type, properties, context)
        : await handler.create(logicalId, properties, context);
      const deletionPolicy: string = declared.DeletionPolicy ?? 'Delete';
      stack.resources.set(logicalId, { ...created, logicalId, type: declared.Type, properties, deletionPolicy });
    } catch (error) {
      if (error instanceof Error) error.message = `${stack.name}/${logicalId}: ${error.message}`;
      throw error;
    }
  }

  #contextOf(stack: Stack, declared: Shape): StackContext {
    const key = stringsIn(declared.Properties).find((text) => stack.source.assets.has(text));
    return {
      stackName: stack.name,
      physicalName: (logicalId) => `${stack.name}-${logicalId}`,
      assetPath: key === undefined ? undefined : stack.source.assets.get(key),
    };
  }

  async #rollBack(stack: Stack): Promise<void> {
    await this.#delete(stack, ({ deletionPolicy }) => deletionPolicy !== 'Retain');
    this.#cloud.record('stack', stack.name, { status: 'ROLLBACK_COMPLETE' });
  }

  async #delete(stack: Stack, chosen: (resource: DeployedResource) => boolean): Promise<void> {
    for (const resource of [...stack.resources.values()].reverse().filter(chosen)) {
      await this.#handlers[resource.type]?.delete(resource);
      stack.resources.delete(resource.logicalId);
    }
  }

  #scope(stack: Stack): Scope {
    const { template } = stack.source;
    const scope: Scope = {
      ref: (name) => {
        if (name.startsWith('AWS::')) return this.#pseudoParameter(name, stack);
        const parameter = template.Parameters?.[name];
        if (parameter) return this.#parameter(name, parameter, stack.source.parameters[name]);
        return deployedResource(stack, name).ref;
      },
      getAtt: (logicalId, attribute) => {
        const { type, attributes } = deployedResource(stack, logicalId);
        const value = attributes[attribute];
        if (value === undefined) throw new NotModelled(`attribute ${attribute} of ${type} (${logicalId})`);
        return value;
      },
      findInMap: (map, topLevelKey, secondLevelKey) => {
        const value = template.Mappings?.[map]?.[topLevelKey]?.[secondLevelKey];
        if (value !== undefined) return value;
        const path = [map, topLevelKey, secondLevelKey].join('/');
        throw new AwsError('ValidationError', `Template error: Unable to get mapping for ${path}`);
      },
      condition: (name) => {
        const expression = template.Conditions?.[name];
        if (expression !== undefined) return holds(expression, scope);
        throw new AwsError('ValidationError', `Template format error: Unresolved condition ${name}`);
      },
      importValue: (name) => {
        stack.imports.add(name);
        for (const { exports } of this.#stacks.values()) {
          if (exports[name] !== undefined) return exports[name];
        }
        throw new AwsError('ValidationError', `No export named ${name} found.`);
      },
      zones: (region) => {
        if (region !== '' && region !== this.#cloud.region) throw new NotModelled(`zones of ${region}`);
        return ZONE_LETTERS.map((letter) => this.#cloud.region + letter);
      },
    };
    return scope;
  }

  #pseudoParameter(name: string, stack: Stack): unknown {
    switch (name) {
      case 'AWS::AccountId':
        return this.#cloud.account;
      case 'AWS::NoValue':
        return NO_VALUE;
      case 'AWS::Partition':
        return 'aws';
      case 'AWS::Region':
        return this.#cloud.region;
      case 'AWS::StackId':
        return stack.id;
      case 'AWS::StackName':
        return stack.name;
      case 'AWS::URLSuffix':
        return 'amazonaws.com';
      default:
        throw new NotModelled(`pseudo parameter ${name}`);
    }
  }

  #parameter(name: string, declared: Shape, given: string | undefined): unknown {
    onlyKnown(`parameter ${name}`, declared, ['Default', 'Description', 'NoEcho', 'Type']);
    const value = given ?? declared.Default;
    if (value === undefined) throw new AwsError('ValidationError', `Parameters: [${name}] must have values`);
    if (/^AWS::SSM::Parameter::Value<(String|AWS::EC2::Image::Id)>$/.test(declared.Type)) {
      return this.#options.resolveSsmParameter(value);
    }
    if (declared.Type === 'CommaDelimitedList') return String(value).split(',');
    if (declared.Type === 'String' || declared.Type === 'Number') return String(value);
    throw new NotModelled(`parameter ${name} of type ${declared.Type}`);
  }
}

/**
 * The stacks of a cloud assembly, those first that others depend on. Reads files synchronously: time does not pass.
 * @throws NotModelled for what is neither a stack, nor its file assets, nor CDK's own bookkeeping
 */
export function readAssembly(directory: string): SynthesizedStack[] {
  const readJson = (file: string): Shape => JSON.parse(readFileSync(join(directory, file), 'utf8'));
  const artifacts: Readonly<Record<string, Shape>> = readJson('manifest.json').artifacts;
  const assets = new Map<string, string>();
  const stacks = new Map<string, SynthesizedStack>();
  for (const [id, { type, properties, environment }] of Object.entries(artifacts)) {
    if (type === 'cdk:asset-manifest') {
      for (const [key, path] of fileAssets(readJson(properties.file))) assets.set(key, resolvePath(directory, path));
    } else if (type === 'aws:cloudformation:stack') {
      onlyKnown(`stack artifact ${id}`, properties, STACK_PROPERTIES);
      const { stackName: name = id, parameters = {}, templateFile } = properties;
      stacks.set(id, { name, environment, parameters, assets, template: readJson(templateFile) });
    } else if (type !== 'cdk:tree' && type !== 'cdk:feature-flag-report') {
      throw new NotModelled(`artifact ${id} of type ${type}`);
    }
  }
  const order = dependenciesFirst(Object.keys(artifacts), (id) => artifacts[id]?.dependencies ?? []);
  return order.flatMap((id) => stacks.get(id) ?? []);
}

const STACK_PROPERTIES = [
  'parameters',
  'stackName',
  'templateFile',
  // CDK writes the same tags onto every resource that can carry them.
  'tags',
  // How the CDK command line gets at an account: roles, the bootstrap stack and the bucket for templates.
  'additionalDependencies',
  'assumeRoleArn',
  'bootstrapStackVersionSsmParameter',
  'cloudFormationExecutionRoleArn',
  'lookupRole',
  'requiresBootstrapStackVersion',
  'stackTemplateAssetObjectUrl',
  'terminationProtection',
  'validateOnSynth',
];

/** Object key and path, relative to the assembly, of each file asset. */
function fileAssets(manifest: Shape): [objectKey: string, path: string][] {
  onlyKnown('asset manifest', manifest, ['version', 'files', 'dockerImages']);
  if (Object.keys(manifest.dockerImages ?? {}).length > 0) throw new NotModelled('docker image assets');
  return Object.values<Shape>(manifest.files).flatMap(({ source, destinations }) => {
    onlyKnown('asset source', source, ['packaging', 'path']);
    return Object.values<Shape>(destinations).map(({ objectKey }): [string, string] => [objectKey, source.path]);
  });
}

function checkTemplate(template: Shape): void {
  onlyKnown('template', template, [
    'AWSTemplateFormatVersion',
    'Conditions',
    'Description',
    'Mappings',
    'Metadata',
    'Outputs',
    'Parameters',
    'Resources',
    'Rules',
  ]);
  // CDK's own rule asks whether the account's bootstrap stack is new enough; here is no bootstrap stack.
  onlyKnown('template rules', template.Rules, ['CheckBootstrapVersion']);
  for (const [logicalId, resource] of Object.entries<Shape>(template.Resources)) {
    onlyKnown(logicalId, resource, [
      'Condition',
      'DeletionPolicy',
      'DependsOn',
      'Metadata',
      'Properties',
      'Type',
      // It matters when an update replaces a resource, which is refused.
      'UpdateReplacePolicy',
    ]);
    if (resource.Metadata?.['AWS::CloudFormation::Init']) throw new NotModelled(`${logicalId}: cfn-init`);
    if (!['Delete', 'Retain', 'RetainExceptOnCreate'].includes(resource.DeletionPolicy ?? 'Delete')) {
      throw new NotModelled(`${logicalId}: DeletionPolicy ${resource.DeletionPolicy}`);
    }
  }
}

/** The logical ids of the resources to make, each after those that it refers to or declares to depend on. */
function creationOrder(template: Shape, scope: Scope): string[] {
  const resources: Readonly<Record<string, Shape>> = template.Resources;
  const wanted = Object.keys(resources).filter((logicalId) => {
    const { Type, Condition } = resources[logicalId];
    return Type !== CDK_METADATA && (Condition === undefined || scope.condition(Condition));
  });
  return dependenciesFirst(wanted, (logicalId) => {
    const { DependsOn = [], Properties } = resources[logicalId];
    return [...[DependsOn].flat(), ...references(Properties, scope)];
  });
}

/**
 * @param dependenciesOf may name what is not among the nodes; that is left out
 * @throws AwsError ValidationError for a circle
 */
function dependenciesFirst(nodes: readonly string[], dependenciesOf: (node: string) => Iterable<string>): string[] {
  const order = new Set<string>();
  const path: string[] = [];
  const visit = (node: string): void => {
    if (order.has(node)) return;
    if (path.includes(node)) {
      const circle = path.slice(path.indexOf(node)).join(', ');
      throw new AwsError('ValidationError', `Circular dependency between resources: [${circle}]`);
    }
    path.push(node);
    for (const dependency of dependenciesOf(node)) if (nodes.includes(dependency)) visit(dependency);
    path.pop();
    order.add(node);
  };
  for (const node of nodes) visit(node);
  return [...order];
}

function isRetained({ deletionPolicy }: DeployedResource): boolean {
  return deletionPolicy === 'Retain' || deletionPolicy === 'RetainExceptOnCreate';
}

async function updated(
  handler: ResourceHandler,
  existing: DeployedResource,
  type: string,
  properties: Shape,
  context: StackContext,
): Promise<CreatedResource> {
  if (type !== existing.type) throw new NotModelled(`a change from ${existing.type} to ${type}`);
  if (isDeepStrictEqual(properties, existing.properties)) return existing;
  if (!handler.update) throw new NotModelled(`an update of ${type}`);
  await handler.update(existing, properties, existing.properties, context);
  return existing;
}

function deployedResource(stack: Stack, logicalId: string): DeployedResource {
  const resource = stack.resources.get(logicalId);
  if (resource) return resource;
  throw new AwsError(
    'ValidationError',
    `Template format error: Unresolved resource dependencies [${logicalId}] in the Resources block of the template`,
  );
}

function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(stringsIn);
}
