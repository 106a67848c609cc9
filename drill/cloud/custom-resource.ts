import { AwsError, type Caller, type Cloud } from './kernel.ts';
import type { ResourceHandler } from './resource.ts';
import type { Endpoint } from './wire/endpoint.ts';

interface Answer {
  readonly Status: 'SUCCESS' | 'FAILED';
  readonly Reason?: string;
  readonly PhysicalResourceId?: string;
}

/**
 * Resources that a function of the template makes: CloudFormation invokes it and waits until it has put its answer to the
 * address that was given.
 *
 * @param deployer who deploys: invokes the function
 * @see docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-custom-resources-lambda.html
 */
export function customResourceHandler(cloud: Cloud, endpoint: Endpoint, deployer: Caller): ResourceHandler {
  const random = cloud.random.fork('custom-resource');

  async function ask(
    requestType: 'Create' | 'Update' | 'Delete',
    logicalId: string,
    { ServiceToken, ServiceTimeout = '3600', ...properties }: Record<string, unknown>,
    physicalId?: string,
    old?: Record<string, unknown>,
  ): Promise<Answer> {
    const answered = Promise.withResolvers<Answer>();
    const event = {
      RequestType: requestType,
      ResponseURL: endpoint.presign((body) => answered.resolve(JSON.parse(body))),
      StackId: cloud.arn('cloudformation', 'stack/local'),
      RequestId: random.uuid(),
      ResourceType: 'AWS::CloudFormation::CustomResource',
      LogicalResourceId: logicalId,
      ...(physicalId && { PhysicalResourceId: physicalId }),
      ResourceProperties: { ServiceToken, ...properties },
      ...(old && { OldResourceProperties: old }),
    };
    const input = { FunctionName: ServiceToken, InvocationType: 'Event', Payload: Buffer.from(JSON.stringify(event)) };
    await cloud.call({ service: 'lambda', operation: 'Invoke', input, caller: deployer });
    const timeout = Number(ServiceTimeout);
    const late = cloud.clock
      .sleep(timeout * 1000)
      .then(() => ({ Status: 'FAILED', Reason: `no answer within ${timeout} s` }) as const);
    const answer: Answer = await Promise.race([answered.promise, late]);
    cloud.record('custom-resource', logicalId, { requestType, ...answer });
    if (answer.Status === 'FAILED') throw new AwsError('ValidationError', `${logicalId}: ${answer.Reason}`);
    return answer;
  }

  /** By physical id. */
  const known = new Map<string, { readonly logicalId: string; readonly properties: Record<string, unknown> }>();
  return {
    create: async (logicalId, properties) => {
      const { PhysicalResourceId: ref = logicalId } = await ask('Create', logicalId, properties);
      known.set(ref, { logicalId, properties });
      return { ref, attributes: {} };
    },
    update: async ({ ref }, properties) => {
      const { logicalId, properties: old } = known.get(ref) ?? { logicalId: ref, properties: {} };
      await ask('Update', logicalId, properties, ref, old);
      known.set(ref, { logicalId, properties });
    },
    delete: async ({ ref }) => {
      const { logicalId, properties } = known.get(ref) ?? { logicalId: ref, properties: {} };
      await ask('Delete', logicalId, properties, ref);
    },
  };
}
