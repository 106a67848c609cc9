import { AwsError, type Caller, type Cloud, NotModelled } from '../kernel.ts';
import type { Random } from '../random.ts';
import type { WireRequest, WireResponse } from './protocol.ts';
import { wireService } from './services.ts';

export type { WireRequest, WireResponse } from './protocol.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

/** Access key and service of a SigV4 Authorization header. */
const CREDENTIAL = /Credential=([^/]+)\/\d+\/[^/]+\/([^/]+)\/aws4_request/;

/**
 * The wire face of the local cloud: takes AWS's HTTP requests as any SDK sends them. Requests are identified by their
 * access key; signatures are not verified.
 */
export class Endpoint {
  readonly cloud: Cloud;
  readonly #random: Random;
  readonly #callers = new Map<string, () => Caller>();
  readonly #presigned = new Map<string, (body: string) => void>();

  constructor(cloud: Cloud) {
    this.cloud = cloud;
    this.#random = cloud.random.fork('wire');
  }

  /** Temporary credentials of a role session. A function is asked for the caller at every request. */
  issueCredentials(caller: Caller | (() => Caller)): Credentials {
    const accessKeyId = `ASIA${this.#random.hex(16).toUpperCase()}`;
    this.#callers.set(accessKeyId, typeof caller === 'function' ? caller : () => caller);
    return { accessKeyId, secretAccessKey: this.#random.hex(40), sessionToken: this.#random.hex(64) };
  }

  /** An address to which anybody may put one body, as S3's presigned ones are. */
  presign(put: (body: string) => void): string {
    const path = `/${this.#random.uuid()}?X-Amz-Signature=${this.#random.hex(64)}`;
    this.#presigned.set(path, put);
    return `https://local-presigned.s3.amazonaws.com${path}`;
  }

  revoke(accessKeyId: string): void {
    this.#callers.delete(accessKeyId);
  }

  /**
   * Answers one request; AWS's errors are answers too.
   * @throws NotModelled, or another error of the model itself: then the run is void
   */
  async handle(request: WireRequest): Promise<WireResponse> {
    try {
      return await this.#answer(request);
    } catch (error) {
      throw this.cloud.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #answer(request: WireRequest): Promise<WireResponse> {
    const put = request.method === 'PUT' ? this.#presigned.get(request.path) : undefined;
    if (put) {
      await this.cloud.clock.sleep(this.cloud.latency('api'));
      put(Buffer.from(request.body).toString());
      return { status: 200, headers: {}, body: '' };
    }
    const [, accessKeyId = '', signingName = ''] = CREDENTIAL.exec(request.headers['authorization'] ?? '') ?? [];
    if (!accessKeyId) throw new NotModelled(`${request.method} ${request.path} without a SigV4 Authorization header`);
    const { name: service, protocol, unknownKey } = wireService(signingName);
    const requestId = this.#random.uuid();
    try {
      const caller = this.#callers.get(accessKeyId)?.();
      if (!caller) throw new AwsError(unknownKey.code, unknownKey.message, unknownKey.status);
      const { operation, input } = protocol.decode(request);
      const output = await this.cloud.call({ service, operation: operation.name, input, caller });
      return protocol.encode(operation, output ?? {}, requestId);
    } catch (error) {
      if (error instanceof AwsError) return protocol.encodeError(error, requestId);
      throw error;
    }
  }
}
