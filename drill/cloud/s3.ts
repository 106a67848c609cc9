import { createHash } from 'node:crypto';
import { type ResourcePolicies, resourcePolicyHandler } from './iam.ts';
import {
  AwsError,
  type Caller,
  type Cloud,
  NotModelled,
  type Operation,
  onlyKnown,
  type Service,
  type Shape,
} from './kernel.ts';
import type { Random } from './random.ts';
import type { ResourceHandler, ResourceHandlers } from './resource.ts';

export interface StoredObject {
  /** milliseconds since the epoch */
  readonly at: number;
  readonly bucket: string;
  readonly key: string;
  /** as UTF-8 */
  readonly body: string;
  readonly contentType: string;
}

interface Bucket {
  readonly versioned: boolean;
  /** The newest version of each object, by its key. */
  readonly objects: Map<string, StoredObject>;
}

/** docs: AmazonS3/latest/userguide/UsingMetadata.html, the default of a PUT without a word about it */
const DEFAULT_CONTENT_TYPE = 'application/octet-stream';
/** "Amazon S3 encrypts all new objects": AmazonS3/latest/userguide/default-encryption-faq.html */
const ENCRYPTION = 'AES256';
/** The oldest that AWS's endpoints take: aws.amazon.com/blogs/security/tls-1-2-required-for-aws-endpoints */
const TLS_VERSION = '1.2';
const BUCKET_NAME = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Rules that act sooner might act while somebody looks. */
const SHORTEST_EXPIRATION_DAYS = 30;

/** S3, as far as workflows put objects into it. It has no wire protocol here: programs on hosts and functions do not call it. */
export class S3 implements Service {
  readonly name = 's3';
  readonly handlers: ResourceHandlers;
  readonly operations: Readonly<Record<string, Operation>>;
  readonly #cloud: Cloud;
  readonly #random: Random;
  readonly #buckets = new Map<string, Bucket>();

  constructor(cloud: Cloud, policies: ResourcePolicies) {
    this.#cloud = cloud;
    this.#random = cloud.random.fork('s3');
    this.handlers = {
      'AWS::S3::Bucket': this.#bucketHandler(),
      'AWS::S3::BucketPolicy': bucketPolicyHandler(policies),
    };
    this.operations = {
      PutObject: {
        authorize: ({ Bucket, Key, ServerSideEncryption }) => [
          onObject('s3:PutObject', Bucket, Key, {
            ...(ServerSideEncryption && { 's3:x-amz-server-side-encryption': ServerSideEncryption }),
          }),
        ],
        invoke: (input) => this.#put(input),
      },
      GetObject: {
        authorize: ({ Bucket, Key }) => [onObject('s3:GetObject', Bucket, Key)],
        invoke: (input, caller) => this.#get(input, caller),
      },
    };
    cloud.register(this);
  }

  /** All that is in all buckets. */
  get objects(): readonly StoredObject[] {
    return [...this.#buckets.values()].flatMap(({ objects }) => [...objects.values()]);
  }

  #put(input: Shape): Shape {
    onlyKnown('s3:PutObject', input, ['Body', 'Bucket', 'ContentType', 'Key', 'ServerSideEncryption']);
    const { Body = '', Bucket: bucket, ContentType: contentType = DEFAULT_CONTENT_TYPE, Key: key } = input;
    if ((input.ServerSideEncryption ?? ENCRYPTION) !== ENCRYPTION)
      throw new NotModelled(`s3:PutObject: ServerSideEncryption ${input.ServerSideEncryption}`);
    const { versioned, objects } = this.#bucket(bucket);
    const body = typeof Body === 'string' ? Body : new TextDecoder('utf-8', { fatal: true }).decode(Body);
    objects.set(key, { at: this.#cloud.clock.now(), bucket, key, body, contentType });
    this.#cloud.record('object-stored', `${bucket}/${key}`, { bytes: Buffer.byteLength(body) });
    return {
      ETag: entityTag(body),
      ServerSideEncryption: ENCRYPTION,
      ...(versioned && { VersionId: this.#random.hex(32) }),
    };
  }

  async #get(input: Shape, caller: Caller): Promise<Shape> {
    onlyKnown('s3:GetObject', input, ['Bucket', 'Key']);
    const found = this.#bucket(input.Bucket).objects.get(input.Key);
    if (!found) throw await this.#noSuchKey(input.Bucket, caller);
    const Body = new TextEncoder().encode(found.body);
    return {
      Body,
      ContentLength: Body.length,
      ContentType: found.contentType,
      ETag: entityTag(found.body),
      LastModified: new Date(found.at),
      ServerSideEncryption: ENCRYPTION,
    };
  }

  /** Who may not list the bucket is not told that something is not there (docs: GetObject, Permissions). */
  async #noSuchKey(bucket: string, caller: Caller): Promise<AwsError> {
    const list = { action: 's3:ListBucket', resource: bucketArn(bucket) };
    const hidden = await this.#cloud.authorizer?.deny(caller, list);
    return hidden === undefined
      ? new AwsError('NoSuchKey', 'The specified key does not exist.', 404)
      : new AwsError('AccessDenied', 'Access Denied', 403);
  }

  #bucket(name: string): Bucket {
    const bucket = this.#buckets.get(name);
    if (!bucket) throw new AwsError('NoSuchBucket', 'The specified bucket does not exist', 404);
    return bucket;
  }

  #bucketHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        checkBucket(properties);
        const name: string = properties.BucketName ?? this.#freeName(stack.physicalName(logicalId).toLowerCase());
        if (!BUCKET_NAME.test(name)) throw new AwsError('InvalidBucketName', 'The specified bucket is not valid.');
        if (this.#buckets.has(name))
          throw new AwsError(
            'BucketAlreadyOwnedByYou',
            'Your previous request to create the named bucket succeeded and you already own it.',
            409,
          );
        const versioned = properties.VersioningConfiguration?.Status === 'Enabled';
        this.#buckets.set(name, { versioned, objects: new Map() });
        return {
          ref: name,
          attributes: {
            Arn: bucketArn(name),
            DomainName: `${name}.s3.amazonaws.com`,
            RegionalDomainName: `${name}.s3.${this.#cloud.region}.amazonaws.com`,
          },
        };
      },
      delete: ({ ref }) => {
        if (this.#bucket(ref).objects.size > 0)
          throw new AwsError('BucketNotEmpty', 'The bucket you tried to delete is not empty', 409);
        this.#buckets.delete(ref);
      },
    };
  }

  /** CloudFormation makes up another name each time, so that a retained bucket is not in the way of a new stack. */
  #freeName(base: string): string {
    let name = base;
    for (let number = 2; this.#buckets.has(name); number++) name = `${base}-${number}`;
    return name;
  }
}

function bucketPolicyHandler(policies: ResourcePolicies): ResourceHandler {
  const handler = resourcePolicyHandler('AWS::S3::BucketPolicy', 'Buckets', bucketArn, policies);
  return {
    ...handler,
    create: (logicalId, { Bucket, ...properties }, stack) =>
      handler.create(logicalId, { ...properties, Buckets: [Bucket] }, stack),
  };
}

/** @throws NotModelled for what would make a difference to somebody who puts and gets objects */
function checkBucket(properties: Shape): void {
  onlyKnown('AWS::S3::Bucket', properties, [
    'BucketEncryption',
    'BucketName',
    'LifecycleConfiguration',
    'OwnershipControls',
    'PublicAccessBlockConfiguration',
    'Tags',
    'VersioningConfiguration',
  ]);
  // Nobody here is anonymous, so nothing is public that could be blocked.
  onlyKnown('PublicAccessBlockConfiguration', properties.PublicAccessBlockConfiguration, [
    'BlockPublicAcls',
    'BlockPublicPolicy',
    'IgnorePublicAcls',
    'RestrictPublicBuckets',
  ]);
  onlyKnown('VersioningConfiguration', properties.VersioningConfiguration, ['Status']);
  for (const { ServerSideEncryptionByDefault, ...rule } of properties.BucketEncryption
    ?.ServerSideEncryptionConfiguration ?? []) {
    onlyKnown('ServerSideEncryptionConfiguration', rule, ['BucketKeyEnabled']);
    if (ServerSideEncryptionByDefault?.SSEAlgorithm !== ENCRYPTION)
      throw new NotModelled(`BucketEncryption: ${ServerSideEncryptionByDefault?.SSEAlgorithm}`);
  }
  for (const { ObjectOwnership } of properties.OwnershipControls?.Rules ?? []) {
    if (ObjectOwnership !== 'BucketOwnerEnforced') throw new NotModelled(`access control lists (${ObjectOwnership})`);
  }
  for (const rule of properties.LifecycleConfiguration?.Rules ?? []) checkLifecycleRule(rule);
}

function checkLifecycleRule(rule: Shape): void {
  onlyKnown('LifecycleConfiguration', rule, [
    'AbortIncompleteMultipartUpload',
    'ExpirationInDays',
    'Id',
    // Only the newest version of an object is ever read.
    'NoncurrentVersionExpiration',
    'Prefix',
    'Status',
  ]);
  if (rule.ExpirationInDays < SHORTEST_EXPIRATION_DAYS)
    throw new NotModelled(`objects that expire after ${rule.ExpirationInDays} days`);
}

function bucketArn(name: string): string {
  return `arn:aws:s3:::${name}`;
}

function onObject(action: string, bucket: string, key: string, context: Record<string, string> = {}) {
  const resource = `${bucketArn(bucket)}/${key}`;
  return { action, resource, context: { 's3:TlsVersion': TLS_VERSION, ...context } };
}

/** docs: API_Object, ETag: the MD5 digest of an object that was put in one piece and encrypted by S3 itself */
function entityTag(body: string): string {
  return `"${createHash('md5').update(body).digest('hex')}"`;
}
