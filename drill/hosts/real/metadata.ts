import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { Credentials } from '../../cloud/wire/endpoint.ts';
import type { HostIdentity } from '../host.ts';

/** What the metadata service knows of a host at this moment. */
export interface Metadata {
  readonly identity: HostIdentity;
  readonly region: string;
  readonly addresses: readonly string[];
  readonly credentials: () => Credentials & { readonly expiration: Date };
}

/**
 * The instance metadata service, version 2 only, for all hosts: each connection begins with a line that says which address
 * it comes from. Paths that nobody here needs are 404, as absent metadata is.
 */
export class MetadataService {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  /** @param lookUp finds the host whose primary address this is */
  static async listen(path: string, lookUp: (address: string) => Metadata | undefined): Promise<MetadataService> {
    const sources = new WeakMap<Socket, string>();
    const http = createHttpServer((request, response) => {
      const metadata = lookUp(sources.get(request.socket) ?? '');
      if (metadata) answer(metadata, request, response);
      else response.writeHead(404).end();
    });
    const server = createServer((socket) => {
      socket.once('data', (chunk: Buffer) => {
        const end = chunk.indexOf('\n');
        sources.set(socket, chunk.subarray(0, end).toString());
        socket.pause();
        socket.unshift(chunk.subarray(end + 1));
        http.emit('connection', socket);
        socket.resume();
      });
      socket.on('error', () => {});
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return new MetadataService(server);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Tokens are not bound to a host or a time: what matters is that nothing works without one. */
const TOKEN = 'AQAEAE1ldGFkYXRhIHRva2VuIG9mIHRoZSBkcmlsbA==';
const ROOT = '/latest/meta-data/';

function answer(metadata: Metadata, request: IncomingMessage, response: ServerResponse): void {
  const { method, url = '', headers } = request;
  if (method === 'PUT' && url === '/latest/api/token') {
    const seconds = Number(headers['x-aws-ec2-metadata-token-ttl-seconds']);
    const valid = seconds >= 1 && seconds <= 21_600;
    response.writeHead(valid ? 200 : 400, valid ? { 'x-aws-ec2-metadata-token-ttl-seconds': String(seconds) } : {});
    response.end(valid ? TOKEN : undefined);
  } else if (headers['x-aws-ec2-metadata-token'] !== TOKEN) {
    response.writeHead(401).end();
  } else {
    const value = url.startsWith(ROOT) ? read(metadata, url.slice(ROOT.length)) : undefined;
    response.writeHead(value === undefined ? 404 : 200, { 'content-type': 'text/plain' }).end(value);
  }
}

/** Names: ec2/latest/userguide/ec2-instance-metadata.html, "Instance metadata categories". */
function read(metadata: Metadata, path: string): string | undefined {
  const { identity, region, addresses } = metadata;
  const interfacePath = `network/interfaces/macs/${identity.macAddress}`;
  const role = identity.roleArn.slice(identity.roleArn.lastIndexOf('/') + 1);
  const values: Readonly<Record<string, string>> = {
    'instance-id': identity.instanceId,
    'instance-type': identity.instanceType,
    'local-ipv4': identity.privateIp,
    mac: identity.macAddress,
    'placement/availability-zone': identity.zone,
    'placement/region': region,
    'network/interfaces/macs/': `${identity.macAddress}/`,
    [`${interfacePath}/device-number`]: '0',
    [`${interfacePath}/interface-id`]: identity.interfaceId,
    [`${interfacePath}/local-ipv4s`]: addresses.join('\n'),
    'iam/security-credentials/': role,
  };
  return path === `iam/security-credentials/${role}` ? credentialsDocument(metadata.credentials()) : values[path];
}

function credentialsDocument(credentials: ReturnType<Metadata['credentials']>): string {
  return JSON.stringify({
    Code: 'Success',
    Type: 'AWS-HMAC',
    AccessKeyId: credentials.accessKeyId,
    SecretAccessKey: credentials.secretAccessKey,
    Token: credentials.sessionToken,
    Expiration: credentials.expiration.toISOString().replace(/\.\d+Z$/, 'Z'),
  });
}
