import { type App, CrossStackReferences, ReferenceStrength } from 'aws-cdk-lib';
import { type DatabaseConfig, type KeeperConfig, regionOf } from './config.ts';
import { DataStack } from './data-stack.ts';
import { KeeperStack } from './keeper-stack.ts';

/** The two stacks of an installation. Nothing in them looks up an account. */
export function buildApp(app: App, config: KeeperConfig): { data: DataStack; keeper: KeeperStack } {
  const region = regionOf(Object.values(config.databases)[0] as DatabaseConfig);
  const account = process.env['CDK_DEFAULT_ACCOUNT'];
  const env = { region, ...(account && { account }) };
  // The data stack cannot be deleted before the one that refers to it.
  CrossStackReferences.of(app).consume(ReferenceStrength.STRONG);
  const data = new DataStack(app, 'KeeperData', {
    env,
    config,
    description: 'Keeper: what must outlive everything else.',
  });
  const keeper = new KeeperStack(app, 'Keeper', {
    env,
    config,
    network: data.network,
    evidence: data.evidence,
    description: 'Keeper: hosts, functions and workflows; all of it can be replaced.',
  });
  return { data, keeper };
}
