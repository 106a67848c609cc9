import { createRequire } from 'node:module';
import { NotModelled, type ServiceName, type Shape } from '../kernel.ts';
import { awsJson, awsQuery, ec2Query, type Protocol, restJson } from './protocol.ts';

/** A service that is reached over the wire, with the schemas of its SDK client. */
export interface WireService {
  readonly name: ServiceName;
  readonly protocol: Protocol;
  /** The error for an access key that AWS does not know. */
  readonly unknownKey: { readonly code: string; readonly status: number; readonly message: string };
}

const INVALID_TOKEN = 'The security token included in the request is invalid.';

/** By the service name of the credential scope, which is the IAM prefix for all of these. */
const SERVICES: Readonly<Record<string, () => WireService>> = {
  ec2: () => ({
    name: 'ec2',
    protocol: ec2Query(sdk('@aws-sdk/client-ec2'), 'http://ec2.amazonaws.com/doc/2016-11-15/'),
    unknownKey: {
      code: 'AuthFailure',
      status: 401,
      message: 'AWS was not able to validate the provided access credentials',
    },
  }),
  ssm: () => ({
    name: 'ssm',
    protocol: awsJson(sdk('@aws-sdk/client-ssm'), '1.1'),
    unknownKey: { code: 'UnrecognizedClientException', status: 400, message: INVALID_TOKEN },
  }),
  states: () => ({
    name: 'states',
    protocol: awsJson(sdk('@aws-sdk/client-sfn'), '1.0'),
    unknownKey: { code: 'UnrecognizedClientException', status: 400, message: INVALID_TOKEN },
  }),
  sns: () => ({
    name: 'sns',
    protocol: awsQuery(sdk('@aws-sdk/client-sns'), 'http://sns.amazonaws.com/doc/2010-03-31/'),
    unknownKey: { code: 'InvalidClientTokenId', status: 403, message: INVALID_TOKEN },
  }),
  lambda: () => ({
    name: 'lambda',
    protocol: restJson(sdk('@aws-sdk/client-lambda')),
    unknownKey: { code: 'UnrecognizedClientException', status: 403, message: INVALID_TOKEN },
  }),
};

const loaded = new Map<string, WireService>();

/**
 * The service of this signing name; its SDK client is loaded once per process, when it is first asked for.
 * @throws NotModelled for a service that has no wire protocol here
 */
export function wireService(signingName: string): WireService {
  let service = loaded.get(signingName);
  if (!service) {
    const load = SERVICES[signingName];
    if (!load) throw new NotModelled(`the local cloud has no wire protocol for the service ${signingName}`);
    service = load();
    loaded.set(signingName, service);
  }
  return service;
}

// Synchronous, so that virtual time cannot pass meanwhile.
const require = createRequire(import.meta.url);
function sdk(name: string): Shape {
  return require(name);
}
