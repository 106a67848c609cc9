import { AwsError, type Cloud, type Operation, onlyKnown, type Service } from './kernel.ts';
import type { ResourceHandlers } from './resource.ts';

export interface LogGroup {
  readonly name: string;
  /** undefined: kept for ever */
  readonly retentionInDays: number | undefined;
}

/** @see docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html */
const RETENTIONS_IN_DAYS = [
  1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

/** Log groups. The lines themselves are happenings of the cloud, recorded by the service that writes them. */
export class Logs implements Service {
  readonly name = 'logs';
  readonly operations: Readonly<Record<string, Operation>> = {};
  readonly handlers: ResourceHandlers;
  readonly #groups = new Map<string, LogGroup>();

  constructor(cloud: Cloud) {
    this.handlers = {
      'AWS::Logs::LogGroup': {
        create: (logicalId, properties, stack) => {
          onlyKnown('AWS::Logs::LogGroup', properties, ['LogGroupName', 'RetentionInDays', 'Tags']);
          const { LogGroupName: name = stack.physicalName(logicalId), RetentionInDays: retentionInDays } = properties;
          if (retentionInDays !== undefined && !RETENTIONS_IN_DAYS.includes(retentionInDays)) {
            throw new AwsError('InvalidParameterException', `Invalid retention value: ${retentionInDays}`);
          }
          if (this.#groups.has(name)) {
            throw new AwsError('ResourceAlreadyExistsException', 'The specified log group already exists');
          }
          this.#groups.set(name, { name, retentionInDays });
          return { ref: name, attributes: { Arn: cloud.arn('logs', `log-group:${name}:*`) } };
        },
        delete: (created) => {
          this.#groups.delete(created.ref);
        },
      },
    };
    cloud.register(this);
  }

  get groups(): readonly LogGroup[] {
    return [...this.#groups.values()];
  }
}
