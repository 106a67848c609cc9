import { Duration } from 'aws-cdk-lib';
import type * as sns from 'aws-cdk-lib/aws-sns';
import * as sfn from 'aws-cdk-lib/aws-stepfunctions';
import * as tasks from 'aws-cdk-lib/aws-stepfunctions-tasks';
import type { Construct } from 'constructs';
import { jsonata } from './jsonata.ts';

export interface TellProps {
  readonly topic: sns.ITopic;
  /** JSONata expressions. */
  readonly subject: string;
  readonly message: string;
  readonly next: sfn.State;
}

/** A message to people. That it cannot be sent must not keep a database down: then it goes on all the same. */
export function tell(scope: Construct, id: string, { topic, subject, message, next }: TellProps): sfn.State {
  const task = tasks.CallAwsService.jsonata(scope, id, {
    service: 'sns',
    action: 'publish',
    parameters: {
      TopicArn: topic.topicArn,
      // docs.aws.amazon.com/sns/latest/api/API_Publish.html: fewer than 100 characters
      Subject: jsonata(`$substring(${subject}, 0, 99)`),
      Message: jsonata(message),
    },
    iamResources: ['*'],
    taskTimeout: sfn.Timeout.duration(Duration.seconds(30)),
  });
  task.addRetry({ errors: ['States.ALL'], interval: Duration.seconds(1), maxAttempts: 3, backoffRate: 2 });
  task.addCatch(next, { errors: ['States.ALL'] });
  task.next(next);
  return task;
}
