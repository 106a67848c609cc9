import { readFileSync } from 'node:fs';
import { Stack } from 'aws-cdk-lib';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';

export interface CommandParameter {
  readonly description: string;
  /** Systems Manager refuses a value that does not match it. */
  readonly allowedPattern: string;
}

export interface CommandProps {
  readonly description: string;
  readonly parameters: Readonly<Record<string, CommandParameter>>;
  /** After which the script is killed and the command has failed. */
  readonly timeoutSeconds: number;
}

export const VOLUME_ID: CommandParameter = { description: 'The data volume', allowedPattern: '^vol-[0-9a-f]{8,17}$' };

/**
 * One of commands/ as a document of Systems Manager. A parameter reaches the script as the environment variable
 * `SSM_<name>` and is never put into its text; `interpolationType: ENV_VAR` needs the agent 3.3.2746.0 or newer.
 * @see docs.aws.amazon.com/systems-manager/latest/userguide/documents-syntax-data-elements-parameters.html
 */
export class Command extends Construct {
  readonly documentName: string;
  readonly arn: string;

  /** @param name the script under commands/, without `.sh` */
  constructor(scope: Construct, name: string, props: CommandProps) {
    super(scope, name);
    this.documentName = `${Stack.of(this).stackName.toLowerCase()}-${name}`;
    const document = new ssm.CfnDocument(this, 'Document', {
      name: this.documentName,
      documentType: 'Command',
      documentFormat: 'JSON',
      targetType: '/AWS::EC2::Instance',
      updateMethod: 'NewVersion',
      content: {
        schemaVersion: '2.2',
        description: props.description,
        parameters: Object.fromEntries(
          Object.entries(props.parameters).map(([parameter, { description, allowedPattern }]) => [
            parameter,
            { type: 'String', description, allowedPattern, interpolationType: 'ENV_VAR' },
          ]),
        ),
        mainSteps: [
          {
            action: 'aws:runShellScript',
            name: name.replaceAll('-', '_'),
            inputs: { timeoutSeconds: String(props.timeoutSeconds), runCommand: readCommand(name).split('\n') },
          },
        ],
      },
    });
    this.arn = Stack.of(this).formatArn({ service: 'ssm', resource: 'document', resourceName: document.ref });
  }
}

/**
 * The text of a script under commands/, complete: a line `# include: <file>` in it stands for that file there.
 *
 * @param name without `.sh`
 */
export function readCommand(name: string): string {
  return read(`${name}.sh`).replace(/^# include: (\S+)$/gm, (_line, included: string) => body(read(included)));
}

function read(file: string): string {
  return readFileSync(new URL(`../commands/${file}`, import.meta.url), 'utf8');
}

/** What is below the comment that begins a script. */
function body(script: string): string {
  return script.slice(script.indexOf('\n\n')).trim();
}
