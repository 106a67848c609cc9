import { describe, expect, it } from 'vitest';
import type { Shape } from '../../drill/cloud/kernel.ts';
import { DATABASE_TAG } from '../../functions/core/tags.ts';
import config from '../../keeper.config.ts';
import { listOf, resourcesOf, textOf } from './template.ts';

interface Statement {
  /** Where the policy is in the stack, without the policy itself. */
  readonly owner: string;
  readonly capability: string;
  readonly actions: readonly string[];
  readonly resources: readonly string[];
  readonly conditions: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

function statements(): Statement[] {
  return resourcesOf('AWS::IAM::Policy').flatMap(({ path, properties }) => {
    const [owner = '', capability = ''] = path.split('/');
    return properties.PolicyDocument.Statement.map((statement: Shape) => {
      expect(Object.keys(statement).filter((key) => !['Action', 'Resource', 'Condition'].includes(key))).toEqual([
        'Effect',
      ]);
      expect(statement.Effect).toBe('Allow');
      return {
        owner,
        capability,
        actions: listOf<string>(statement.Action),
        resources: listOf<unknown>(statement.Resource).map(textOf),
        conditions: statement.Condition ?? {},
      };
    });
  });
}

const DATABASES = Object.keys(config.databases);
const FUNCTION = ['write-logs'];
const RUNBOOK = [
  'preflight',
  'read-parameters',
  'take-snapshots',
  'read-volumes',
  'run-commands',
  'relocate',
  'tell-people',
];

/** The capabilities of every role. What is not here, nothing may do. */
const CAPABILITIES: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(
    DATABASES.flatMap((name) => [`Host-${name}`, `Scratch-${name}`].map((owner) => [owner, ['report']])),
  ),
  look: [...FUNCTION, 'read-hosts', 'read-volumes', 'read-status-checks'],
  launch: [...FUNCTION, 'read-hosts', 'read-volumes', 'read-host-specs', 'launch-hosts', 'terminate-hosts'],
  move: [
    ...FUNCTION,
    'read-hosts',
    'read-volumes',
    'move-volumes',
    'move-addresses',
    'terminate-hosts',
    'release-hosts',
  ],
  retire: [...FUNCTION, 'read-hosts', 'read-volumes', 'terminate-hosts', 'record-proof', 'record-host-specs'],
  'on-interruption': [...FUNCTION, 'keep-undelivered', 'note-notices', 'start-relocations', 'see-relocations'],
  reconcile: [
    ...FUNCTION,
    'keep-undelivered',
    'read-hosts',
    'read-volumes',
    'read-status-checks',
    'read-images',
    'read-host-specs',
    'read-parameters',
    'terminate-hosts',
    'remove-expired',
    'see-executions',
    'start-relocations',
    'start-backups',
  ],
  'recovery-point': [...FUNCTION, 'read-recovery-points'],
  prove: [...FUNCTION, 'read-host-specs', 'launch-scratch-hosts'],
  preflight: [
    ...FUNCTION,
    'read-hosts',
    'read-volumes',
    'read-status-checks',
    'read-host-specs',
    'read-images',
    'read-instance-types',
    'read-modifications',
    'see-runbooks',
  ],
  'remove-hosts': [...FUNCTION, 'read-hosts', 'terminate-hosts', 'stop-executions'],
  Relocate: ['invoke-functions', 'read-parameters', 'run-commands', 'tell-people'],
  ScaleUp: [...RUNBOOK, 'grow-volumes'],
  Patch: [...RUNBOOK, 'read-snapshots'],
  Backup: [
    'read-parameters',
    'read-volumes',
    'read-snapshots',
    'run-commands',
    'take-snapshots',
    'verify',
    'tell-people',
  ],
  VerifyBackup: ['invoke-functions', 'read-parameters', 'remove-scratch-hosts', 'keep-evidence', 'tell-people'],
  NoteNotice: ['read-hosts', 'note-on-hosts', 'write-logs'],
};

/** Actions on the resource `*`, each with its reason. IAM's Service Authorization Reference lists no resources for them. */
const ON_ANYTHING: Readonly<Record<string, string>> = {
  'ec2:DescribeInstances': 'reads only',
  'ec2:DescribeVolumes': 'reads only',
  'ec2:DescribeLaunchTemplateVersions': 'reads only',
  'ec2:DescribeInstanceStatus': 'reads only',
  'ec2:DescribeInstanceTypeOfferings': 'reads only',
  'ec2:DescribeInstanceTypes': 'reads only',
  'ec2:DescribeSnapshots': 'reads only',
  'ec2:DescribeVolumesModifications': 'reads only',
  'ssm:GetCommandInvocation': 'reads only',
  'ssm:ListCommandInvocations': 'reads only',
  'states:SendTaskSuccess': 'needs a task token, which only the host has that it was made for',
  'states:SendTaskHeartbeat': 'needs a task token, which only the host has that it was made for',
  'cloudwatch:PutMetricData': "limited to Keeper's namespace by a condition",
  'states:SendTaskFailure': 'needs a task token, which only the host has that it was made for',
  'ssm:UpdateInstanceInformation': "the agent's registration of its own host",
  'ssmmessages:CreateControlChannel': "the agent's line to Run Command",
  'ssmmessages:CreateDataChannel': "the agent's line to Run Command",
  'ssmmessages:OpenControlChannel': "the agent's line to Run Command",
  'ssmmessages:OpenDataChannel': "the agent's line to Run Command",
  'logs:CreateLogDelivery': 'set up by Step Functions for its log',
  'logs:GetLogDelivery': 'set up by Step Functions for its log',
  'logs:UpdateLogDelivery': 'set up by Step Functions for its log',
  'logs:DeleteLogDelivery': 'set up by Step Functions for its log',
  'logs:ListLogDeliveries': 'set up by Step Functions for its log',
  'logs:PutResourcePolicy': 'set up by Step Functions for its log',
  'logs:DescribeResourcePolicies': 'set up by Step Functions for its log',
  'logs:DescribeLogGroups': 'set up by Step Functions for its log',
};

/** What EC2 is asked to change without a tag that would say whose it is. */
const UNTAGGED: Readonly<Record<string, string>> = {
  'ec2:CreateFleet fleet/*': 'an instant fleet is a request, and its hosts are judged by themselves',
  'ec2:CreateFleet image/*': 'read by the launch; the launch template names it',
  'ec2:RunInstances image/*': 'read by the launch; the launch template names it',
};

/** Whether the statement holds for what carries, or is made with, the tag of one of the databases. */
function isLimitedByTag({ conditions }: Statement): boolean {
  const equal = { ...conditions['StringEquals'] };
  const allowed = ['aws:ResourceTag', 'aws:RequestTag', 'ssm:resourceTag']
    .map((key) => equal[`${key}/${DATABASE_TAG}`])
    .filter((value) => value !== undefined);
  return (
    allowed.length > 0 &&
    allowed.every((value) => listOf<unknown>(value).every((name) => DATABASES.includes(String(name))))
  );
}

/** `volume/*` of the ARN of a volume. */
function kindOf(resource: string): string {
  return resource.slice(resource.lastIndexOf(':') + 1);
}

describe('a role', () => {
  it('has its named capabilities and nothing else', () => {
    const found: Record<string, string[]> = {};
    for (const { path } of resourcesOf('AWS::IAM::Policy')) {
      const [owner = '', ...rest] = path.split('/');
      found[owner] = [...(found[owner] ?? []), rest.join('/').replace(/\/Resource$/, '')];
    }
    const sorted = (all: Readonly<Record<string, readonly string[]>>) =>
      Object.fromEntries(Object.entries(all).map(([owner, list]) => [owner, [...list].sort()]));
    expect(sorted(found)).toEqual(sorted(CAPABILITIES));
  });

  it('has no policy in itself, and none that AWS manages', () => {
    for (const { path, properties } of resourcesOf('AWS::IAM::Role')) {
      expect(properties.Policies ?? [], path).toEqual([]);
      expect(properties.ManagedPolicyArns ?? [], path).toEqual([]);
    }
  });
});

describe('a permission', () => {
  it('names its actions', () => {
    expect(statements().flatMap(({ actions }) => actions.filter((action) => action.includes('*')))).toEqual([]);
  });

  it('is for all resources only where there is a reason', () => {
    const found = statements().filter(({ resources }) => resources.includes('*'));
    expect(new Set(found.flatMap(({ actions }) => actions))).toEqual(new Set(Object.keys(ON_ANYTHING)));
  });

  it('to change something in EC2 is limited to what bears the tag of a database, or names it', () => {
    const found = statements()
      .filter((statement) => !isLimitedByTag(statement))
      .flatMap(({ actions, resources }) =>
        actions
          .filter((action) => /^ec2:(?!Describe)/.test(action))
          .flatMap((action) =>
            resources.filter((each) => each.includes('*')).map((each) => `${action} ${kindOf(each)}`),
          ),
      );
    expect(new Set(found)).toEqual(new Set(Object.keys(UNTAGGED)));
  });

  it('to tag something is limited to the tags that are needed', () => {
    const tagging = statements().filter(({ actions }) => actions.some((action) => /Tags$/.test(action)));
    expect(tagging).toHaveLength(10);
    for (const { capability, conditions } of tagging) {
      expect(listOf(conditions['ForAllValues:StringEquals']?.['aws:TagKeys']), capability).not.toEqual([]);
    }
  });

  it('to pass a role is for the roles of hosts, to EC2', () => {
    const hostRoles = resourcesOf('AWS::IAM::Role')
      .filter(({ path }) => path.startsWith('Host-') || path.startsWith('Scratch-'))
      .map(({ logicalId }) => `<${logicalId}.Arn>`);
    const passing = statements().filter(({ actions }) => actions.includes('iam:PassRole'));
    expect(passing.map(({ owner }) => owner)).toEqual(['launch', 'prove']);
    expect(passing.flatMap(({ resources }) => resources).sort()).toEqual(hostRoles.sort());
    for (const { conditions } of passing)
      expect(conditions).toEqual({ StringEquals: { 'iam:PassedToService': 'ec2.amazonaws.com' } });
  });

  it("to run a command is for Keeper's own documents on the databases' hosts", () => {
    const documents = resourcesOf('AWS::SSM::Document').map(({ logicalId }) => `document/<${logicalId}>`);
    const sending = statements().filter(({ actions }) => actions.includes('ssm:SendCommand'));
    expect(new Set(sending.map(({ owner }) => owner))).toEqual(
      new Set(['move', 'Relocate', 'ScaleUp', 'Patch', 'Backup']),
    );
    for (const statement of sending) {
      for (const kind of statement.resources.map(kindOf)) {
        if (kind === 'instance/*') expect(isLimitedByTag(statement)).toBe(true);
        else expect(documents).toContain(kind);
      }
    }
  });

  it('is assumed by one AWS service, with nothing that another account could use', () => {
    for (const { path, properties } of resourcesOf('AWS::IAM::Role')) {
      const [trust, ...more] = properties.AssumeRolePolicyDocument.Statement;
      expect(more, path).toEqual([]);
      expect(trust, path).toMatchObject({
        Effect: 'Allow',
        Action: 'sts:AssumeRole',
        Principal: { Service: expect.stringMatching(/^(lambda|states|ec2)\.amazonaws\.com$/) },
      });
    }
  });
});
