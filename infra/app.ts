import { App } from 'aws-cdk-lib';
import config from '../keeper.config.ts';
import { buildApp } from './build-app.ts';
import { ConfigError } from './config.ts';

try {
  buildApp(new App(), config);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
