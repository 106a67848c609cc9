import { AwsError, type Cloud, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import type { ResourceHandler } from '../resource.ts';
import { fromTagList, type Tags } from './tags.ts';

interface DocumentParameter {
  readonly default: string | undefined;
  readonly allowedPattern: RegExp | undefined;
  readonly allowedValues: readonly string[] | undefined;
  readonly minChars: number | undefined;
  readonly maxChars: number | undefined;
  readonly inEnvironment: boolean;
}

interface DocumentStep {
  readonly name: string;
  readonly script: string;
  /** Digits, or `{{ parameter }}`. */
  readonly timeoutSeconds: string;
}

interface DocumentVersion {
  readonly parameters: Readonly<Record<string, DocumentParameter>>;
  readonly steps: readonly DocumentStep[];
}

interface Document {
  readonly name: string;
  readonly versions: DocumentVersion[];
  tags: Tags;
}

/** One step of a document with its parameters filled in. */
export interface PreparedStep {
  readonly name: string;
  readonly script: string;
  readonly timeoutSeconds: number;
}

/** A command document that is ready to be sent to hosts. */
export interface PreparedCommand {
  readonly documentVersion: string;
  readonly steps: readonly PreparedStep[];
  readonly environment: Readonly<Record<string, string>>;
}

// The agent's own limits; outside of them it takes its default: aws/amazon-ssm-agent
// agent/framework/processor/executer/plugin/utils/pluginutil/pluginutil.go
const EXECUTION_TIMEOUT = { min: 5, max: 172_800, default: 3600 };
const REFERENCE = /\{\{\s*(\w[\w:./-]*)\s*\}\}/;

/** Command documents of schema version 2.2 whose steps are shell scripts. */
export class Documents {
  readonly #cloud: Cloud;
  readonly #documents = new Map<string, Document>();

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
  }

  /** `AWS::SSM::Document` */
  readonly handler: ResourceHandler = {
    create: (logicalId, properties, stack) => {
      const name = properties.Name ?? stack.physicalName(logicalId);
      const version = fromProperties(properties);
      if (this.#documents.has(name)) {
        throw new AwsError('DocumentAlreadyExists', `Document with same name ${name} already exists`);
      }
      this.#documents.set(name, { name, versions: [version], tags: fromTagList(properties.Tags) });
      return { ref: name, attributes: {} };
    },
    update: (created, properties, previous) => {
      if (properties.UpdateMethod !== 'NewVersion')
        throw new NotModelled('AWS::SSM::Document: an update other than UpdateMethod NewVersion replaces the document');
      if (properties.Name !== previous.Name)
        throw new NotModelled('AWS::SSM::Document: a change of Name replaces the document');
      const document = this.#get(created.ref);
      if (JSON.stringify(properties.Content) !== JSON.stringify(previous.Content)) {
        document.versions.push(fromProperties(properties));
      }
      document.tags = fromTagList(properties.Tags);
    },
    delete: (created) => {
      this.#documents.delete(created.ref);
    },
  };

  /** Also for a document that does not exist: IAM is asked before anything is looked up. */
  tagsOf(name: string): Tags {
    return this.#documents.get(name)?.tags ?? {};
  }

  arnOf(name: string): string {
    return this.#cloud.arn('ssm', `document/${name}`);
  }

  /**
   * Checks what a caller of SendCommand gave against the document, and fills it in.
   * @throws AwsError InvalidDocument, InvalidDocumentVersion, InvalidParameters
   */
  prepare(name: string, wantedVersion: string | undefined, given: Readonly<Record<string, string[]>>): PreparedCommand {
    const document = this.#get(name);
    const number = versionNumber(document, wantedVersion ?? '$DEFAULT');
    const version = document.versions[number - 1];
    if (!version) {
      throw new AwsError('InvalidDocumentVersion', `The document version ${wantedVersion} doesn't exist.`);
    }
    const values = fill(version.parameters, given);
    const environment: Record<string, string> = {};
    for (const [parameter, { inEnvironment }] of Object.entries(version.parameters)) {
      if (inEnvironment) environment[`SSM_${parameter}`] = values[parameter] ?? '';
    }
    return {
      documentVersion: String(number),
      environment,
      steps: version.steps.map(({ name, script, timeoutSeconds }) => ({
        name,
        script,
        timeoutSeconds: executionTimeout(timeoutSeconds, values),
      })),
    };
  }

  #get(name: string): Document {
    const document = this.#documents.get(name);
    if (!document) throw new AwsError('InvalidDocument', `Document with name ${name} does not exist.`);
    return document;
  }
}

function versionNumber(document: Document, wanted: string): number {
  // CloudFormation makes every new version the default one.
  return wanted === '$DEFAULT' || wanted === '$LATEST' ? document.versions.length : Number(wanted);
}

function fill(
  parameters: Readonly<Record<string, DocumentParameter>>,
  given: Readonly<Record<string, string[]>>,
): Record<string, string> {
  for (const name of Object.keys(given)) {
    if (!parameters[name]) throw new AwsError('InvalidParameters', `The parameter ${name} is not in the document.`);
  }
  const values: Record<string, string> = {};
  for (const [name, parameter] of Object.entries(parameters)) {
    const list = given[name];
    if (list && list.length !== 1) {
      throw new AwsError('InvalidParameters', `The parameter ${name} is a String and takes exactly one value.`);
    }
    const value = list?.[0];
    if (value !== undefined) checkValue(name, value, parameter);
    const filled = value ?? parameter.default;
    if (filled === undefined) throw new AwsError('InvalidParameters', `The parameter ${name} has no value.`);
    values[name] = filled;
  }
  return values;
}

function checkValue(name: string, value: string, parameter: DocumentParameter): void {
  const { allowedPattern, allowedValues, minChars, maxChars } = parameter;
  const valid =
    (allowedPattern?.test(value) ?? true) &&
    (allowedValues?.includes(value) ?? true) &&
    value.length >= (minChars ?? 0) &&
    value.length <= (maxChars ?? Number.POSITIVE_INFINITY);
  if (!valid) throw new AwsError('InvalidParameters', `The value of the parameter ${name} is not allowed.`);
}

function executionTimeout(text: string, values: Readonly<Record<string, string>>): number {
  const parameter = REFERENCE.exec(text)?.[1];
  const seconds = Number(parameter === undefined ? text : values[parameter]);
  const { min, max, default: fallback } = EXECUTION_TIMEOUT;
  return Number.isInteger(seconds) && seconds >= min && seconds <= max ? seconds : fallback;
}

function fromProperties(properties: Shape): DocumentVersion {
  onlyKnown('AWS::SSM::Document', properties, [
    'Content',
    'DocumentFormat',
    'DocumentType',
    'Name',
    'UpdateMethod',
    'TargetType',
    'Tags',
  ]);
  if (properties.DocumentType !== 'Command')
    throw new NotModelled(`AWS::SSM::Document: DocumentType ${properties.DocumentType}`);
  if (![undefined, 'JSON'].includes(properties.DocumentFormat) && typeof properties.Content === 'string')
    throw new NotModelled(`AWS::SSM::Document: DocumentFormat ${properties.DocumentFormat} in a string`);
  if (![undefined, '/', '/AWS::EC2::Instance'].includes(properties.TargetType))
    throw new NotModelled(`AWS::SSM::Document: TargetType ${properties.TargetType}`);
  return parseContent(typeof properties.Content === 'string' ? JSON.parse(properties.Content) : properties.Content);
}

function parseContent(content: Shape): DocumentVersion {
  onlyKnown('SSM document', content, ['schemaVersion', 'description', 'parameters', 'mainSteps']);
  if (content.schemaVersion !== '2.2') throw new NotModelled(`SSM document: schemaVersion ${content.schemaVersion}`);
  const parameters: Record<string, DocumentParameter> = {};
  for (const [name, parameter] of Object.entries<Shape>(content.parameters ?? {})) {
    parameters[name] = parseParameter(name, parameter);
  }
  const steps = (content.mainSteps as Shape[]).map((step) => parseStep(step, parameters));
  if (steps.length === 0 || new Set(steps.map((step) => step.name)).size < steps.length) {
    throw new AwsError('InvalidDocumentContent', 'mainSteps needs at least one step, and each its own name.');
  }
  return { parameters, steps };
}

function parseParameter(name: string, parameter: Shape): DocumentParameter {
  const what = `SSM document, parameter ${name}`;
  onlyKnown(what, parameter, [
    'type',
    'description',
    'default',
    'allowedPattern',
    'allowedValues',
    'minChars',
    'maxChars',
    'displayType',
    'interpolationType',
  ]);
  if (parameter.type !== 'String') throw new NotModelled(`${what}: type ${parameter.type}`);
  if (![undefined, 'ENV_VAR'].includes(parameter.interpolationType))
    throw new NotModelled(`${what}: interpolationType ${parameter.interpolationType}`);
  if (REFERENCE.test(parameter.default ?? '')) throw new NotModelled(`${what}: default ${parameter.default}`);
  const pattern: string | undefined = parameter.allowedPattern;
  // Java's and Go's regular expressions are both used, one of them may match anywhere: only an anchored one is safe.
  if (pattern !== undefined && !/^\^.*\$$/s.test(pattern))
    throw new NotModelled(`${what}: allowedPattern ${pattern} without ^ and $`);
  return {
    default: parameter.default,
    allowedPattern: pattern === undefined ? undefined : new RegExp(pattern),
    allowedValues: parameter.allowedValues,
    minChars: parameter.minChars,
    maxChars: parameter.maxChars,
    inEnvironment: parameter.interpolationType === 'ENV_VAR',
  };
}

function parseStep(step: Shape, parameters: Readonly<Record<string, DocumentParameter>>): DocumentStep {
  onlyKnown(`SSM document, step ${step.name}`, step, ['action', 'name', 'inputs']);
  if (step.action !== 'aws:runShellScript') throw new NotModelled(`SSM document: action ${step.action}`);
  onlyKnown(`SSM document, step ${step.name}, inputs`, step.inputs, ['runCommand', 'timeoutSeconds']);
  const lines: string[] = [step.inputs.runCommand].flat();
  for (const line of lines) {
    const reference = REFERENCE.exec(line);
    if (reference) {
      throw new NotModelled(
        `SSM document, step ${step.name}: ${reference[0]} puts the value into the script as text, and whoever sets it can inject commands; give the parameter interpolationType ENV_VAR and use "$SSM_${reference[1]}"`,
      );
    }
  }
  const timeoutSeconds = String(step.inputs.timeoutSeconds ?? EXECUTION_TIMEOUT.default);
  const parameter = REFERENCE.exec(timeoutSeconds)?.[1];
  if (parameter !== undefined && !parameters[parameter]) {
    throw new AwsError('InvalidDocumentContent', `Step ${step.name}: the parameter ${parameter} is not defined.`);
  }
  return { name: step.name, script: lines.join('\n'), timeoutSeconds };
}
