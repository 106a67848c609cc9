import { AwsError, type Cloud, type Operation, onlyKnown, type Service, type Shape } from './kernel.ts';
import type { ResourceHandlers } from './resource.ts';

export interface MetricDatum {
  /** milliseconds since the epoch */
  readonly at: number;
  readonly namespace: string;
  readonly metricName: string;
  readonly dimensions: Readonly<Record<string, string>>;
  readonly value: number;
  readonly unit: string;
}

/** Alarms as the template has them, and the metrics that programs put. No alarm is evaluated. */
export class CloudWatch implements Service {
  readonly name = 'cloudwatch';
  readonly handlers: ResourceHandlers;
  readonly operations: Readonly<Record<string, Operation>>;
  /** Everything put so far, in order. */
  readonly metrics: MetricDatum[] = [];
  readonly #cloud: Cloud;
  readonly #alarms = new Map<string, Shape>();

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
    this.handlers = {
      'AWS::CloudWatch::Alarm': {
        create: (logicalId, properties, stack) => {
          onlyKnown('AWS::CloudWatch::Alarm', properties, ALARM_PROPERTIES);
          const name: string = properties.AlarmName ?? stack.physicalName(logicalId);
          this.#alarms.set(name, properties);
          return { ref: name, attributes: { Arn: cloud.arn('cloudwatch', `alarm:${name}`) } };
        },
        delete: (created) => {
          this.#alarms.delete(created.ref);
        },
      },
    };
    this.operations = {
      PutMetricData: {
        authorize: ({ Namespace }) => [
          { action: 'cloudwatch:PutMetricData', resource: '*', context: { 'cloudwatch:namespace': Namespace } },
        ],
        invoke: (input) => this.#put(input),
      },
    };
    cloud.register(this);
  }

  /** The properties of each alarm, by its name. */
  get alarms(): ReadonlyMap<string, Shape> {
    return this.#alarms;
  }

  #put(input: Shape): Shape {
    onlyKnown('cloudwatch:PutMetricData', input, ['MetricData', 'Namespace']);
    if (input.Namespace.startsWith('AWS/')) {
      throw new AwsError('InvalidParameterValueException', 'The value AWS/ for parameter Namespace is invalid.');
    }
    for (const datum of input.MetricData) {
      onlyKnown('cloudwatch:PutMetricData MetricData', datum, [
        'Dimensions',
        'MetricName',
        'Timestamp',
        'Unit',
        'Value',
      ]);
      // The range: AmazonCloudWatch/latest/APIReference/API_MetricDatum.html, "Value"
      if (typeof datum.Value !== 'number' || !(Math.abs(datum.Value) <= 2 ** 360)) {
        throw new AwsError('InvalidParameterValue', `The value ${datum.Value} for parameter Value is invalid.`);
      }
      this.metrics.push({
        at: datum.Timestamp === undefined ? this.#cloud.clock.now() : instant(datum.Timestamp),
        namespace: input.Namespace,
        metricName: datum.MetricName,
        dimensions: Object.fromEntries((datum.Dimensions ?? []).map(({ Name, Value }: Shape) => [Name, Value])),
        value: datum.Value,
        unit: datum.Unit ?? 'None',
      });
    }
    return {};
  }
}

/** @param timestamp a Date, as programs pass it, or ISO 8601, as workflows write it */
function instant(timestamp: Date | string): number {
  const ms = new Date(timestamp).getTime();
  if (!Number.isNaN(ms)) return ms;
  throw new AwsError('InvalidParameterValue', `The value ${timestamp} for parameter Timestamp is invalid.`);
}

const ALARM_PROPERTIES = [
  'ActionsEnabled',
  'AlarmActions',
  'AlarmDescription',
  'AlarmName',
  'ComparisonOperator',
  'DatapointsToAlarm',
  'Dimensions',
  'EvaluationPeriods',
  'InsufficientDataActions',
  'MetricName',
  'Metrics',
  'Namespace',
  'OKActions',
  'Period',
  'Statistic',
  'Tags',
  'Threshold',
  'TreatMissingData',
  'Unit',
];
