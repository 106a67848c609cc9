import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Endpoint, WireRequest } from './endpoint.ts';

/** Where to listen: a Unix socket, or a port of the loopback interface (0: any free one). */
export type ListenAt = { readonly path: string } | { readonly port: number };

/** The {@link Endpoint} behind a real HTTP server, for hosts. Real clock only: sockets do not wait for virtual time. */
export class EndpointServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Resolves when it accepts connections. */
  static async listen(endpoint: Endpoint, at: ListenAt): Promise<EndpointServer> {
    const server = createServer((request, response) => void answer(endpoint, request, response));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen('path' in at ? at : { port: at.port, host: '127.0.0.1' }, resolve);
    });
    return new EndpointServer(server);
  }

  /** e.g. `http://127.0.0.1:4566`; the path of the socket when it listens on one. */
  get address(): string {
    const address = this.#server.address() as AddressInfo | string;
    return typeof address === 'string' ? address : `http://127.0.0.1:${address.port}`;
  }

  /** Ends all connections, also those that wait for an answer. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

async function answer(endpoint: Endpoint, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  try {
    const { status, headers, body } = await endpoint.handle(await readRequest(incoming));
    outgoing.writeHead(status, headers).end(body);
  } catch (error) {
    // The endpoint has told the cloud, which ends the run; the client only has to stop waiting.
    outgoing.writeHead(501, { 'content-type': 'text/plain' }).end(String(error));
  }
}

async function readRequest(incoming: IncomingMessage): Promise<WireRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const headers = Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]);
  return {
    method: incoming.method ?? 'GET',
    path: incoming.url ?? '/',
    headers: Object.fromEntries(headers),
    body: Buffer.concat(chunks),
  };
}
