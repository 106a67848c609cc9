import { type ResourcePolicies, resourcePolicyHandler } from './iam.ts';
import { AwsError, type Cloud, type Operation, onlyKnown, type Service, type Shape } from './kernel.ts';
import type { Random } from './random.ts';
import type { ResourceHandler, ResourceHandlers } from './resource.ts';

export interface QueuedMessage {
  /** milliseconds since the epoch */
  readonly at: number;
  readonly queueArn: string;
  readonly messageId: string;
  readonly body: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Standard queues that are written to and never read by a program: dead letters, for people. */
export class Sqs implements Service {
  readonly name = 'sqs';
  readonly handlers: ResourceHandlers;
  readonly operations: Readonly<Record<string, Operation>>;
  /** Everything sent so far, in order. */
  readonly messages: QueuedMessage[] = [];
  readonly #cloud: Cloud;
  readonly #random: Random;
  /** ARNs of the queues, by URL. */
  readonly #queues = new Map<string, string>();

  constructor(cloud: Cloud, policies: ResourcePolicies) {
    this.#cloud = cloud;
    this.#random = cloud.random.fork('sqs');
    this.handlers = {
      'AWS::SQS::Queue': this.#queueHandler(),
      'AWS::SQS::QueuePolicy': resourcePolicyHandler(
        'AWS::SQS::QueuePolicy',
        'Queues',
        (url) => this.#arnOf(url),
        policies,
      ),
    };
    this.operations = {
      SendMessage: {
        authorize: ({ QueueUrl }) => [{ action: 'sqs:SendMessage', resource: this.#arnOf(QueueUrl) }],
        invoke: (input) => this.#send(input),
      },
    };
    cloud.register(this);
  }

  /**
   * The URL that SendMessage wants, of the queue with this ARN.
   * @throws AwsError QueueDoesNotExist
   */
  urlOf(queueArn: string): string {
    for (const [url, arn] of this.#queues) if (arn === queueArn) return url;
    throw queueDoesNotExist();
  }

  #arnOf(queueUrl: string): string {
    const arn = this.#queues.get(queueUrl);
    if (arn === undefined) throw queueDoesNotExist();
    return arn;
  }

  #send(input: Shape): Shape {
    onlyKnown('sqs:SendMessage', input, ['MessageAttributes', 'MessageBody', 'QueueUrl']);
    const attributes: Record<string, string> = {};
    for (const [name, attribute] of Object.entries<Shape>(input.MessageAttributes ?? {})) {
      onlyKnown(`sqs:SendMessage attribute ${name}`, attribute, ['DataType', 'StringValue']);
      attributes[name] = attribute.StringValue;
    }
    const queueArn = this.#arnOf(input.QueueUrl);
    const messageId = this.#random.uuid();
    this.messages.push({ at: this.#cloud.clock.now(), queueArn, messageId, body: input.MessageBody, attributes });
    this.#cloud.record('queued', queueArn, { messageId, attributes });
    return { MessageId: messageId };
  }

  #queueHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        onlyKnown('AWS::SQS::Queue', properties, [
          'QueueName',
          'Tags',
          // Nothing reads, and no run lasts long enough for a message to expire.
          'MessageRetentionPeriod',
          'VisibilityTimeout',
          // Encryption with a key of the service itself needs no permission and changes nothing that could be seen.
          'SqsManagedSseEnabled',
        ]);
        const name: string = properties.QueueName ?? stack.physicalName(logicalId);
        const arn = this.#cloud.arn('sqs', name);
        const url = `https://sqs.${this.#cloud.region}.amazonaws.com/${this.#cloud.account}/${name}`;
        this.#queues.set(url, arn);
        return { ref: url, attributes: { Arn: arn, QueueName: name, QueueUrl: url } };
      },
      delete: (created) => {
        this.#queues.delete(created.ref);
      },
    };
  }
}

function queueDoesNotExist(): AwsError {
  return new AwsError('QueueDoesNotExist', 'The specified queue does not exist.');
}
