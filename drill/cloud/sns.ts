import { type ResourcePolicies, resourcePolicyHandler } from './iam.ts';
import {
  type ApiRequest,
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

export interface PublishedMessage {
  /** milliseconds since the epoch */
  readonly at: number;
  readonly messageId: string;
  readonly topicArn: string;
  readonly subject: string | undefined;
  readonly message: string;
}

export interface Subscription {
  readonly arn: string;
  readonly topicArn: string;
  readonly protocol: 'email' | 'sqs' | 'lambda';
  /** an e-mail address, or an ARN */
  readonly endpoint: string;
  readonly rawMessageDelivery: boolean;
}

export interface SnsOptions {
  readonly policies: ResourcePolicies;
  /** Whether the function's own policy lets the service invoke it on behalf of the source. */
  mayInvoke(functionArn: string, principal: string, sourceArn: string): boolean;
  /** @see Sqs.urlOf */
  queueUrl(queueArn: string): string;
}

/** @see docs.aws.amazon.com/sns/latest/api/API_Publish.html */
const MAXIMUM_MESSAGE_BYTES = 262_144;
const SUBJECT = /^[\x21-\x7e][\x20-\x7e]{0,99}$/;

/** Standard topics. What is published stays readable, as the people who subscribe by e-mail would read it. */
export class Sns implements Service {
  readonly name = 'sns';
  readonly handlers: ResourceHandlers;
  readonly operations: Readonly<Record<string, Operation>>;
  /** Everything published so far, in order. */
  readonly messages: PublishedMessage[] = [];
  readonly #cloud: Cloud;
  readonly #options: SnsOptions;
  readonly #random: Random;
  readonly #topics = new Set<string>();
  readonly #subscriptions = new Map<string, Subscription>();

  constructor(cloud: Cloud, options: SnsOptions) {
    this.#cloud = cloud;
    this.#options = options;
    this.#random = cloud.random.fork('sns');
    this.handlers = {
      'AWS::SNS::Topic': this.#topicHandler(),
      'AWS::SNS::TopicPolicy': resourcePolicyHandler(
        'AWS::SNS::TopicPolicy',
        'Topics',
        (topicArn) => topicArn,
        options.policies,
      ),
      'AWS::SNS::Subscription': this.#subscriptionHandler(),
    };
    this.operations = {
      Publish: {
        authorize: ({ TopicArn }) => [{ action: 'sns:Publish', resource: TopicArn }],
        invoke: (input) => this.#publish(input),
      },
    };
    cloud.register(this);
  }

  get subscriptions(): readonly Subscription[] {
    return [...this.#subscriptions.values()];
  }

  #publish(input: Shape): Shape {
    onlyKnown('sns:Publish', input, ['Message', 'Subject', 'TopicArn']);
    const { TopicArn: topicArn, Subject: subject, Message: message } = input;
    if (!this.#topics.has(topicArn)) throw new AwsError('NotFoundException', 'Topic does not exist', 404);
    if (subject !== undefined && !SUBJECT.test(subject)) {
      throw new AwsError('InvalidParameterException', 'Invalid parameter: Subject');
    }
    if (!message) throw new AwsError('InvalidParameterException', 'Invalid parameter: Empty message');
    if (Buffer.byteLength(message) > MAXIMUM_MESSAGE_BYTES) {
      throw new AwsError('InvalidParameterException', 'Invalid parameter: Message too long');
    }
    const published = { at: this.#cloud.clock.now(), messageId: this.#random.uuid(), topicArn, subject, message };
    this.messages.push(published);
    this.#cloud.record('published', topicArn, { subject, message });
    for (const subscription of this.subscriptions) {
      if (subscription.topicArn === topicArn) this.#deliver(subscription, published);
    }
    return { MessageId: published.messageId };
  }

  /** An e-mail has no program behind it: it is delivered by being in {@link messages}. */
  #deliver(subscription: Subscription, published: PublishedMessage): void {
    const { protocol, endpoint, topicArn } = subscription;
    const caller = {
      roleArn: 'sns.amazonaws.com',
      session: topicArn,
      context: { 'aws:SourceArn': topicArn, 'aws:SourceAccount': this.#cloud.account },
    };
    if (protocol === 'sqs') this.#deliverToQueue(subscription, published, caller);
    if (protocol === 'lambda') this.#deliverToFunction(endpoint, published, caller);
  }

  #deliverToQueue(subscription: Subscription, published: PublishedMessage, caller: Caller): void {
    const body = subscription.rawMessageDelivery ? published.message : JSON.stringify(this.#notification(published));
    const input = { QueueUrl: this.#options.queueUrl(subscription.endpoint), MessageBody: body };
    this.#attempt(subscription.endpoint, { service: 'sqs', operation: 'SendMessage', input, caller });
  }

  #deliverToFunction(functionArn: string, published: PublishedMessage, caller: Caller): void {
    if (!this.#options.mayInvoke(functionArn, caller.roleArn, published.topicArn)) {
      this.#cloud.record('undelivered', functionArn, { reason: 'the function does not let SNS invoke it' });
      return;
    }
    const record = { EventSource: 'aws:sns', EventVersion: '1.0', Sns: this.#notification(published) };
    const input = {
      FunctionName: functionArn,
      InvocationType: 'Event',
      Payload: Buffer.from(JSON.stringify({ Records: [record] })),
    };
    this.#attempt(functionArn, { service: 'lambda', operation: 'Invoke', input, caller });
  }

  #attempt(endpoint: string, request: ApiRequest): void {
    this.#cloud.call(request).catch((error: unknown) => {
      // Anything but AWS's own refusal is remembered by the cloud already.
      if (error instanceof AwsError) this.#cloud.record('undelivered', endpoint, { reason: String(error) });
    });
  }

  #notification({ messageId, topicArn, subject, message, at }: PublishedMessage): Shape {
    return {
      Type: 'Notification',
      MessageId: messageId,
      TopicArn: topicArn,
      Subject: subject,
      Message: message,
      Timestamp: new Date(at).toISOString(),
    };
  }

  #topicHandler(): ResourceHandler {
    return {
      create: (logicalId, properties, stack) => {
        onlyKnown('AWS::SNS::Topic', properties, ['DisplayName', 'Tags', 'TopicName']);
        const name: string = properties.TopicName ?? stack.physicalName(logicalId);
        const arn = this.#cloud.arn('sns', name);
        this.#topics.add(arn);
        return { ref: arn, attributes: { TopicArn: arn, TopicName: name } };
      },
      delete: (created) => {
        this.#topics.delete(created.ref);
      },
    };
  }

  #subscriptionHandler(): ResourceHandler {
    return {
      create: (_logicalId, properties) => {
        onlyKnown('AWS::SNS::Subscription', properties, ['Endpoint', 'Protocol', 'RawMessageDelivery', 'TopicArn']);
        const { Endpoint: endpoint, Protocol: protocol, RawMessageDelivery, TopicArn: topicArn } = properties;
        if (!['email', 'sqs', 'lambda'].includes(protocol)) throw new NotModelled(`SNS protocol ${protocol}`);
        const arn = `${topicArn}:${this.#random.uuid()}`;
        const rawMessageDelivery = RawMessageDelivery === true;
        this.#subscriptions.set(arn, { arn, topicArn, protocol, endpoint, rawMessageDelivery });
        return { ref: arn, attributes: { Arn: arn } };
      },
      delete: (created) => {
        this.#subscriptions.delete(created.ref);
      },
    };
  }
}
