import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { buildApp } from '../../infra/build-app.ts';
import { type DatabaseConfig, defineConfig, type KeeperConfig } from '../../infra/config.ts';
import config from '../../keeper.config.ts';

/*
 * The rules are checked here and not by the app: a newer rule of theirs must not stand between an operator and a
 * deployment. What Keeper does otherwise is acknowledged, with the reason, where it is done.
 */

const database: DatabaseConfig = {
  zone: 'eu-west-1a',
  address: '10.77.0.16',
  volumeGiB: 100,
  instanceTypes: ['m7g.large'],
  image: 'postgres:16.4',
  clients: ['10.42.0.0/16'],
};
const TWO_DATABASES: KeeperConfig = defineConfig({
  notify: ['ops@example.com'],
  databases: { orders: database, sensors: { ...database, zone: 'eu-west-1b', address: '10.77.1.16' } },
});

/** The construct tree. No function is bundled: the rules do not look into code. */
function build(of: KeeperConfig): App {
  const app = new App({ context: { 'aws:cdk:bundling-stacks': [] } });
  buildApp(app, of);
  return app;
}

function findings(app: App): string[] {
  return new AwsSolutionsChecks(app)
    .validateScope(app)
    .violations.flatMap(({ ruleName, violatingResources }) =>
      violatingResources.map(({ constructPath }) => `${constructPath}: ${ruleName}`),
    );
}

/** What is acknowledged, where: `path: rule`. */
function acknowledgements(app: App): string[] {
  return app.node
    .findAll()
    .flatMap(({ node }) =>
      node.metadata
        .filter(({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY)
        .flatMap(({ data }) => Object.keys(data).map((id) => `${node.path}: ${id.replace(/^Annotation::/, '')}`)),
    )
    .filter((each) => each.includes(': AwsSolutions-'));
}

describe('the rules of AWS Solutions', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.restoreAllMocks();
  });

  it('find nothing unexplained in the app as it is configured', () => {
    expect(findings(build(config))).toEqual([]);
  });

  it('find nothing unexplained with two databases in a known account', () => {
    vi.stubEnv('CDK_DEFAULT_ACCOUNT', '123456789012');
    expect(findings(build(TWO_DATABASES))).toEqual([]);
  });

  it('would find all that is acknowledged', () => {
    const checks = AwsSolutionsChecks.prototype as unknown as { isAcknowledged: () => boolean };
    vi.spyOn(checks, 'isAcknowledged').mockReturnValue(false);
    const app = build(config);
    const found = findings(app).map((finding) => finding.replace('/Resource: ', ': '));
    expect(new Set(acknowledgements(app))).toEqual(new Set(found));
  });

  it('find a database that is open to the world', () => {
    const open = { ...database, clients: ['0.0.0.0/0'] };
    expect(findings(build({ notify: [], databases: { open } }))).toEqual([
      'Keeper/Host-open/SecurityGroup: AwsSolutions-EC23',
    ]);
  });
});
