import type { ServiceName, Shape } from '../cloud/kernel.ts';
import type { Stage } from '../stage.ts';

/** A person with all permissions calls an API, e.g. at the console. @throws AwsError what AWS answers */
export function asPerson({ local }: Stage, service: ServiceName, operation: string, input: Shape): Promise<Shape> {
  return local.cloud.call({ service, operation, input, caller: local.iam.administrator });
}
