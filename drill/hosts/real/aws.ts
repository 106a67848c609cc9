/**
 * The part of the AWS CLI that Keeper's commands use, as a command line on a host of the drill: credentials come from the
 * instance's metadata, the endpoint from AWS_ENDPOINT_URL. What is not modelled is an error.
 */
import { readFileSync } from 'node:fs';
import {
  SendTaskFailureCommand,
  SendTaskHeartbeatCommand,
  SendTaskSuccessCommand,
  SFNClient,
} from '@aws-sdk/client-sfn';
import { GetParameterCommand, PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm';

type Options = Readonly<Record<string, string>>;

const FLAGS = ['with-decryption', 'overwrite'];

function refuse(what: string): never {
  process.stderr.write(`aws (stand-in): not modelled: ${what}\n`);
  process.exit(64);
}

/** `--name value` pairs and bare flags; a value `file://…` is the content of that file, as in the AWS CLI. */
function parseOptions(words: readonly string[]): Options {
  const options: Record<string, string> = {};
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    if (!word.startsWith('--')) refuse(word);
    const name = word.slice(2);
    if (FLAGS.includes(name)) {
      options[name] = 'true';
      continue;
    }
    const value = words[++i];
    if (value === undefined) refuse(`${word} without a value`);
    options[name] = value.startsWith('file://') ? readFileSync(value.slice('file://'.length), 'utf8') : value;
  }
  return options;
}

function only(options: Options, ...names: readonly string[]): void {
  for (const name of Object.keys(options)) if (!names.includes(name)) refuse(`--${name}`);
}

const sfn = new SFNClient();
const ssm = new SSMClient();

const commands: Readonly<Record<string, (options: Options) => Promise<string>>> = {
  async 'stepfunctions send-task-success'(options) {
    only(options, 'task-token', 'task-output');
    await sfn.send(new SendTaskSuccessCommand({ taskToken: options['task-token'], output: options['task-output'] }));
    return '';
  },
  async 'stepfunctions send-task-failure'(options) {
    only(options, 'task-token', 'error', 'cause');
    const { error, cause } = options;
    await sfn.send(
      new SendTaskFailureCommand({
        taskToken: options['task-token'],
        ...(error !== undefined && { error }),
        ...(cause !== undefined && { cause }),
      }),
    );
    return '';
  },
  async 'stepfunctions send-task-heartbeat'(options) {
    only(options, 'task-token');
    await sfn.send(new SendTaskHeartbeatCommand({ taskToken: options['task-token'] }));
    return '';
  },
  async 'ssm get-parameter'(options) {
    only(options, 'name', 'with-decryption', 'query', 'output');
    if (options['query'] !== 'Parameter.Value' || options['output'] !== 'text') refuse('another output than the value');
    const answer = await ssm.send(
      new GetParameterCommand({ Name: options['name'], WithDecryption: options['with-decryption'] === 'true' }),
    );
    return `${answer.Parameter?.Value}\n`;
  },
  async 'ssm put-parameter'(options) {
    only(options, 'name', 'type', 'value', 'overwrite');
    const { name: Name, value: Value, type: Type, overwrite } = options;
    if (Type !== 'SecureString' && Type !== 'String') refuse(`--type ${Type}`);
    const answer = await ssm.send(new PutParameterCommand({ Name, Value, Type, Overwrite: overwrite !== undefined }));
    return `${JSON.stringify({ Version: answer.Version, Tier: answer.Tier }, undefined, 4)}\n`;
  },
};

const [service = '', operation = '', ...words] = process.argv.slice(2);
const command = commands[`${service} ${operation}`] ?? refuse(`aws ${service} ${operation}`);
try {
  process.stdout.write(await command(parseOptions(words)));
} catch (error) {
  const { name, message } = error as Error;
  const pascal = operation.replace(/(^|-)(\w)/g, (_match, _dash, letter: string) => letter.toUpperCase());
  process.stderr.write(`\nAn error occurred (${name}) when calling the ${pascal} operation: ${message}\n`);
  process.exit(254);
}
