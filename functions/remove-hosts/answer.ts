import { request as httpsRequest } from 'node:https';

/**
 * What CloudFormation sends to a custom resource.
 * @see docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
 */
export interface CustomResourceRequest<Properties> {
  readonly RequestType: 'Create' | 'Update' | 'Delete';
  /** A presigned address in S3: whoever puts the answer there needs no permission. */
  readonly ResponseURL: string;
  readonly StackId: string;
  readonly RequestId: string;
  readonly LogicalResourceId: string;
  readonly PhysicalResourceId?: string;
  readonly ResourceProperties: Properties;
  /** With `Update`. */
  readonly OldResourceProperties?: Properties;
}

export type Outcome = { readonly Status: 'SUCCESS' } | { readonly Status: 'FAILED'; readonly Reason: string };

/**
 * Tells CloudFormation how it ended; it waits for that, an hour if need be.
 * @see docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
 * @throws Error when the answer could not be delivered: then Lambda tries the whole again
 */
export function answer(request: CustomResourceRequest<unknown>, outcome: Outcome): Promise<void> {
  const { StackId, RequestId, LogicalResourceId, PhysicalResourceId = LogicalResourceId } = request;
  const body = JSON.stringify({ ...outcome, StackId, RequestId, LogicalResourceId, PhysicalResourceId });
  return new Promise((resolve, reject) => {
    // S3 signs the request without a content type, so it must be empty.
    const headers = { 'content-type': '', 'content-length': Buffer.byteLength(body) };
    const { hostname, pathname, search } = new URL(request.ResponseURL);
    const put = httpsRequest({ hostname, path: `${pathname}${search}`, method: 'PUT', headers }, (response) => {
      response.resume();
      if (response.statusCode === 200) resolve();
      else reject(new Error(`CloudFormation's answer address says ${response.statusCode}`));
    });
    put.once('error', reject);
    put.end(body);
  });
}
