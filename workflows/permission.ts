import { Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';

/** Something that a role may do, and where it does not name what it may do that to, why. */
export interface Permission {
  readonly actions: readonly string[];
  /** ARNs, or `*` for actions that IAM cannot limit to resources. */
  readonly resources: readonly string[];
  readonly conditions?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
  /** The reason of every `*` in the resources. Without one, cdk-nag's rule AwsSolutions-IAM5 finds it. */
  readonly wildcards?: string;
}

/** Gives a role permissions as one policy, whose name is the capability that they make up. */
export function grant(
  scope: Construct,
  capability: string,
  role: iam.IRole,
  permissions: readonly Permission[],
): iam.Policy {
  const policy = new iam.Policy(scope, capability, {
    roles: [role],
    statements: permissions.map(
      ({ actions, resources, conditions }) =>
        new iam.PolicyStatement({
          actions: [...actions],
          resources: [...resources],
          ...(conditions && { conditions: { ...conditions } }),
        }),
    ),
  });
  for (const { resources, wildcards } of permissions) {
    if (wildcards === undefined) continue;
    const ids = resources
      .map((resource) => readable(Stack.of(scope).resolve(resource)))
      .filter((resource) => resource.includes('*'))
      .map((resource) => `AwsSolutions-IAM5[Resource::${resource}]`);
    Validations.of(policy).acknowledge(...ids.map((id) => ({ id, reason: wildcards })));
  }
  return policy;
}

type Resolved = string | { Ref: string } | { 'Fn::GetAtt': string[] } | { 'Fn::Join': [string, Resolved[]] };

/** An ARN as cdk-nag writes it in the id of a finding: `arn:<AWS::Partition>:ec2:us-east-1:<AWS::AccountId>:volume/*` */
function readable(resolved: Resolved): string {
  if (typeof resolved === 'string') return resolved;
  if ('Ref' in resolved) return `<${resolved.Ref}>`;
  if ('Fn::GetAtt' in resolved) return `<${resolved['Fn::GetAtt'].join('.')}>`;
  const [separator, parts] = resolved['Fn::Join'];
  return parts.map(readable).join(separator);
}
