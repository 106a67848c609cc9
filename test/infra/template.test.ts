import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Shape } from '../../drill/cloud/kernel.ts';
import { withVariables } from '../../functions/core/user-data.ts';
import { packUserData, unpackUserData } from '../../functions/shared/user-data.ts';
import config from '../../keeper.config.ts';
import { listOf, resourcesOf, templateText, textOf } from './template.ts';

const DATABASES = Object.keys(config.databases);

describe('what must outlive the stacks', () => {
  it('is every data volume: encrypted, and kept whatever happens to its stack', () => {
    const volumes = resourcesOf('AWS::EC2::Volume');
    expect(volumes).toHaveLength(DATABASES.length);
    for (const { stack, properties, deletionPolicy, updateReplacePolicy } of volumes) {
      expect(stack).toBe('KeeperData');
      expect(properties.Encrypted).toBe(true);
      expect([deletionPolicy, updateReplacePolicy]).toEqual(['Retain', 'Retain']);
    }
  });

  it('is the parameter that says which volume is live', () => {
    const live = resourcesOf('AWS::SSM::Parameter').filter(({ properties }) => properties.Name.endsWith('/volume-id'));
    expect(live.map(({ properties }) => properties.Name)).toEqual(DATABASES.map((name) => `/keeper/${name}/volume-id`));
    for (const { stack, deletionPolicy, updateReplacePolicy } of live) {
      expect([stack, deletionPolicy, updateReplacePolicy]).toEqual(['KeeperData', 'Retain', 'Retain']);
    }
  });
});

describe('a host', () => {
  it('is launched by relocations only', () => {
    for (const stack of ['KeeperData', 'Keeper'] as const) {
      expect(templateText(stack)).not.toMatch(/"AWS::(EC2::Instance|EC2::SpotFleet|EC2::EC2Fleet|AutoScaling::.*)"/);
    }
  });

  it('answers for its credentials only to itself: IMDSv2, one hop', () => {
    for (const { properties } of resourcesOf('AWS::EC2::LaunchTemplate')) {
      expect(properties.LaunchTemplateData.MetadataOptions).toEqual({
        HttpTokens: 'required',
        HttpEndpoint: 'enabled',
        HttpPutResponseHopLimit: 1,
      });
    }
  });

  it('has encrypted disks that end with it', () => {
    for (const { properties } of resourcesOf('AWS::EC2::LaunchTemplate')) {
      const disks: Shape[] = properties.LaunchTemplateData.BlockDeviceMappings;
      expect(disks).toHaveLength(1);
      for (const { Ebs } of disks) expect(Ebs).toMatchObject({ Encrypted: true, DeleteOnTermination: true });
    }
  });

  it('lets clients in to PostgreSQL, nothing else, and never the world', () => {
    const all = resourcesOf('AWS::EC2::SecurityGroup');
    const groups = all.filter(({ path }) => path.startsWith('Host-'));
    expect(groups).toHaveLength(DATABASES.length);
    // To hosts that look at a clone nothing comes in.
    const others = all.filter((group) => !groups.includes(group));
    expect(others.map(({ properties }) => properties.SecurityGroupIngress)).toEqual(DATABASES.map(() => undefined));
    for (const { properties } of groups) {
      expect(properties.SecurityGroupIngress).not.toEqual([]);
      for (const { IpProtocol, FromPort, ToPort, CidrIp, ...others } of properties.SecurityGroupIngress) {
        expect([IpProtocol, FromPort, ToPort]).toEqual(['tcp', 5432, 5432]);
        expect(textOf(CidrIp)).not.toMatch(/\/0$/);
        expect(Object.keys(others)).toEqual(['Description']);
      }
    }
    expect(templateText('Keeper')).not.toContain('AWS::EC2::SecurityGroupIngress');
  });

  it('has user data that EC2 takes, with the longest task token', () => {
    const variables = {
      KEEPER_IMAGE: `timescale/timescaledb:2.19.3-pg16@sha256:${'f'.repeat(64)}`,
      KEEPER_VOLUME_ID: `vol-${'f'.repeat(17)}`,
      KEEPER_FORMAT_BLANK: 'false',
      // docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html: at most 2,048 characters
      KEEPER_TASK_TOKEN: randomBytes(1_536).toString('base64'),
    };
    for (const { properties } of resourcesOf('AWS::EC2::LaunchTemplate')) {
      const script = unpackUserData(properties.LaunchTemplateData.UserData);
      expect(() => packUserData(withVariables(script, variables))).not.toThrow();
    }
  });
});

describe('logs', () => {
  it('are kept for a month, and not for ever', () => {
    for (const { path, properties } of resourcesOf('AWS::Logs::LogGroup')) {
      expect(properties.RetentionInDays, path).toBe(30);
    }
  });

  it('of every function and every Express workflow go to a group of the template', () => {
    const groups = resourcesOf('AWS::Logs::LogGroup').map(({ logicalId }) => logicalId);
    for (const { path, properties } of resourcesOf('AWS::Lambda::Function')) {
      expect(groups, path).toContain(properties.LoggingConfig.LogGroup.Ref);
    }
    const express = resourcesOf('AWS::StepFunctions::StateMachine').filter(
      ({ properties }) => properties.StateMachineType === 'EXPRESS',
    );
    for (const { path, properties } of express) {
      const [destination] = properties.LoggingConfiguration.Destinations;
      expect(groups, path).toContain(destination.CloudWatchLogsLogGroup.LogGroupArn['Fn::GetAtt'][0]);
    }
  });
});

describe('a rule', () => {
  it('retries for minutes, and then keeps the event where people find it', () => {
    const queues = resourcesOf('AWS::SQS::Queue').map(({ logicalId }) => `<${logicalId}.Arn>`);
    for (const { path, properties } of resourcesOf('AWS::Events::Rule')) {
      for (const target of properties.Targets) {
        expect(queues, path).toContain(textOf(target.DeadLetterConfig.Arn));
      }
    }
  });
});

/** Values of every parameter of every document. A new parameter needs some. */
const VOLUME_IDS = {
  valid: ['vol-0123456789abcdef0', 'vol-12345678'],
  invalid: ['vol-', 'vol-0123456789ABCDEF0', 'i-0123456789abcdef0', 'vol-0123456789abcdef0a', '../vol-12345678'],
};
const SAMPLES: Readonly<Record<string, { readonly valid: readonly string[]; readonly invalid: readonly string[] }>> = {
  'keeper-checkpoint seconds': { valid: ['1', '20', '999'], invalid: ['0', '-1', '1000', '1.5', '20 s'] },
  'keeper-census census': {
    valid: ['lighthouse-backup-2026-01-31', 'a'.repeat(100)],
    invalid: ['a'.repeat(101), 'a b', "a'b", 'a\\b', 'ä'],
  },
  'keeper-grow sizeGiB': { valid: ['1', '100', '65536'], invalid: ['0', '-1', '100000', '1.5', '20 GiB'] },
  'keeper-grow volumeId': VOLUME_IDS,
  'keeper-release volumeId': VOLUME_IDS,
  'keeper-verify volumeId': VOLUME_IDS,
  'keeper-verify marker': {
    valid: ['lighthouse-i-0123456789abcdef0.1.0', 'lighthouse-recover-2026-01-31T0459.2.17', 'a'.repeat(100)],
    invalid: ['a'.repeat(101), 'a b', "a'b", 'a\\b', 'ä'],
  },
};
/** What no parameter may let through. */
const HOSTILE = ['', ' ', '$(reboot)', '`reboot`', '; reboot', '{{ x }}', 'a\nb'];

describe('a command', () => {
  const documents = () => resourcesOf('AWS::SSM::Document').map(({ properties }) => properties);
  const parameters = () =>
    documents().flatMap(({ Name, Content }) =>
      Object.entries<Shape>(Content.parameters).map(([parameter, it]) => ({ name: `${Name} ${parameter}`, ...it })),
    );

  it('has samples for each of its parameters', () => {
    expect(
      parameters()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(Object.keys(SAMPLES).sort());
  });

  it('gets parameters through the environment, and only those of the right shape', () => {
    for (const { name, type, interpolationType, allowedPattern } of parameters()) {
      expect([type, interpolationType], name).toEqual(['String', 'ENV_VAR']);
      expect(allowedPattern, name).toMatch(/^\^.*\$$/);
      const pattern = new RegExp(allowedPattern);
      const { valid = [], invalid = [] } = SAMPLES[name] ?? {};
      expect(valid.length * invalid.length, name).toBeGreaterThan(0);
      for (const value of valid) expect(value, name).toMatch(pattern);
      for (const value of [...invalid, ...HOSTILE, ...valid.map((each) => `${each}; reboot`)]) {
        expect(value, name).not.toMatch(pattern);
      }
    }
  });

  it('reads the parameters that its document has, and the document puts none into its text', () => {
    for (const { Name, Content } of documents()) {
      const [step, ...more] = Content.mainSteps;
      expect(more).toEqual([]);
      const script: string = step.inputs.runCommand.join('\n');
      // `{{ name }}` is a parameter to Systems Manager; `{{.Name}}` is a template of Docker.
      expect(/\{\{\s*\w.*/.exec(script)?.[0], Name).toBeUndefined();
      const read = new Set([...script.matchAll(/\bSSM_(\w+)/g)].map(([, parameter]) => parameter));
      expect(read, Name).toEqual(new Set(Object.keys(Content.parameters)));
      expect(Number(step.inputs.timeoutSeconds), Name).toBeGreaterThan(0);
    }
  });
});

describe('there is room for as much again', () => {
  /** @see docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html */
  it.each(['KeeperData', 'Keeper'] as const)('in the template of %s', (stack) => {
    const { Resources = {}, Parameters = {}, Outputs = {}, Mappings = {} } = JSON.parse(templateText(stack));
    expect(Buffer.byteLength(templateText(stack))).toBeLessThan(1_000_000 / 2);
    expect(Object.keys(Resources).length).toBeLessThan(500 / 2);
    for (const section of [Parameters, Outputs, Mappings]) expect(Object.keys(section).length).toBeLessThan(200 / 2);
  });

  it('in the policies of every role', () => {
    const sizes = new Map<string, number>();
    for (const { properties } of resourcesOf('AWS::IAM::Policy')) {
      for (const role of listOf<Shape>(properties.Roles)) {
        const size = JSON.stringify(properties.PolicyDocument).length;
        sizes.set(role.Ref, (sizes.get(role.Ref) ?? 0) + size);
      }
    }
    // docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: all inline policies of a role together
    for (const [role, size] of sizes) expect(size, role).toBeLessThan(10_240 / 2);
  });

  it('in the definition of every workflow, and in the text of every command', () => {
    for (const { path, properties } of resourcesOf('AWS::StepFunctions::StateMachine')) {
      // docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
      expect(textOf(properties.DefinitionString).length, path).toBeLessThan(1_000_000 / 2);
    }
    for (const { path, properties } of resourcesOf('AWS::SSM::Document')) {
      // docs.aws.amazon.com/general/latest/gr/ssm.html, "Document size"
      expect(JSON.stringify(properties.Content).length, path).toBeLessThan(65_536 / 2);
    }
  });
});
