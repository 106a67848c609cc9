import { EventEmitter } from 'node:events';
import { Readable, Writable } from 'node:stream';
import type { Shape } from '../kernel.ts';
import type { WireRequest, WireResponse } from '../wire/endpoint.ts';

/**
 * Sends a request to AWS and calls back with the answer, unless the sender ceases to exist before.
 * Nothing is called back synchronously.
 */
export type Transport = (request: WireRequest, answered: (response: WireResponse) => void) => void;

/** A connection that is always there and never idle too long. */
class Socket extends EventEmitter {
  readonly connecting = false;
  setKeepAlive(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  destroy(): this {
    return this;
  }
}

class Agent {
  readonly maxSockets: number;
  readonly sockets = {};
  readonly requests = {};
  constructor(options?: { maxSockets?: number }) {
    this.maxSockets = options?.maxSockets ?? Number.POSITIVE_INFINITY;
  }
  destroy(): void {}
}

class IncomingMessage extends Readable {
  readonly statusCode: number;
  readonly statusMessage = '';
  readonly headers: Readonly<Record<string, string>>;
  readonly complete = true;
  constructor({ status, headers, body }: WireResponse) {
    super({ read() {} });
    this.statusCode = status;
    this.headers = headers;
    this.push(typeof body === 'string' ? Buffer.from(body) : body);
    this.push(null);
  }
}

class ClientRequest extends Writable {
  readonly socket = new Socket();
  readonly #chunks: Buffer[] = [];
  readonly #options: Shape;
  readonly #transport: Transport;

  constructor(options: Shape, transport: Transport) {
    // It is over when the answer has arrived, not when the request has been written.
    super({ autoDestroy: false });
    this.#options = options;
    this.#transport = transport;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  override _final(done: () => void): void {
    const { method, path, headers } = this.#options;
    const entries = Object.entries<Shape>(headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)]);
    const request = { method, path, headers: Object.fromEntries(entries), body: Buffer.concat(this.#chunks) };
    this.#transport(request, (response) => {
      if (this.destroyed) return;
      const message = new IncomingMessage(response);
      message.once('close', () => this.destroy());
      this.emit('response', message);
    });
    done();
  }
}

/**
 * `node:http` and `node:https` as far as SDK v3's Node handler uses them, without sockets: every host is AWS.
 * @param refuse makes the error for what is not modelled
 */
export function httpModule(transport: Transport, refuse: (what: string) => Error): Shape {
  return {
    Agent,
    request(options: Shape, onResponse?: (message: IncomingMessage) => void): ClientRequest {
      if (typeof options !== 'object' || options instanceof URL) throw refuse('http.request with a URL');
      const request = new ClientRequest(options, transport);
      if (onResponse) request.once('response', onResponse);
      return request;
    },
  };
}
