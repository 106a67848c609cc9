import {
  type Authorization,
  AwsError,
  type Cloud,
  NotModelled,
  type Operation,
  onlyKnown,
  type Shape,
} from '../kernel.ts';
import type { CreatedResource, ResourceHandler } from '../resource.ts';
import { fromTagList, requestTagContext, resourceTagContext, type Tags } from './tags.ts';

type ParameterType = 'String' | 'StringList' | 'SecureString';

interface ParameterVersion {
  readonly version: number;
  readonly value: string;
  readonly type: ParameterType;
  readonly description: string | undefined;
  readonly allowedPattern: string | undefined;
  readonly modifiedAt: number;
  readonly modifiedBy: string;
}

interface Parameter {
  readonly name: string;
  versions: ParameterVersion[];
  tags: Tags;
}

/** What somebody wants written. */
interface Write {
  readonly name: string;
  readonly value: string;
  readonly type?: ParameterType;
  readonly description?: string;
  readonly allowedPattern?: string;
  readonly tags?: Tags;
  readonly overwrite: boolean;
  readonly by: string;
}

/**
 * The public parameters that Keeper's templates resolve; the AMI ids are made up.
 * Source of the names: docs.aws.amazon.com/linux/al2023/ug/ec2.html
 */
export const PUBLIC_PARAMETERS: Readonly<Record<string, string>> = {
  '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64': 'ami-0a1b2c3d4e5f6a7b8',
  '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64': 'ami-0b1c2d3e4f5a6b7c8',
};

// Limits of the standard tier: docs.aws.amazon.com/general/latest/gr/ssm.html
const MAX_VALUE_LENGTH = 4096;
const MAX_VERSIONS = 100;
const MAX_NAMES_PER_REQUEST = 10;

/** Parameter Store, standard tier. */
export class Parameters {
  readonly #cloud: Cloud;
  readonly #parameters = new Map<string, Parameter>();

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
    for (const [name, value] of Object.entries(PUBLIC_PARAMETERS)) {
      this.publish(name, value);
    }
  }

  readonly operations: Readonly<Record<string, Operation>> = {
    GetParameter: {
      authorize: ({ Name }) => [this.#authorization('ssm:GetParameter', Name)],
      invoke: (input) => {
        onlyKnown('GetParameter', input, ['Name', 'WithDecryption']);
        const found = this.#select(input.Name);
        if ('missing' in found) {
          throw new AwsError(
            found.missing,
            found.missing === 'ParameterVersionNotFound'
              ? `Systems Manager could not find version ${String(input.Name).split(':').at(-1)} of ${this.#nameOf(input.Name)}. Verify the version and try again.`
              : '',
          );
        }
        return { Parameter: this.#describe(found, input.WithDecryption === true) };
      },
    },
    GetParameters: {
      authorize: ({ Names }) => Names.map((name: string) => this.#authorization('ssm:GetParameters', name)),
      invoke: (input) => {
        onlyKnown('GetParameters', input, ['Names', 'WithDecryption']);
        if (input.Names.length > MAX_NAMES_PER_REQUEST) {
          throw new AwsError('ValidationException', 'Member must have length less than or equal to 10');
        }
        const Parameters: Shape[] = [];
        const InvalidParameters: string[] = [];
        for (const name of input.Names as string[]) {
          const found = this.#select(name);
          if ('missing' in found) InvalidParameters.push(name);
          else Parameters.push(this.#describe(found, input.WithDecryption === true));
        }
        return { Parameters, InvalidParameters };
      },
    },
    GetParametersByPath: {
      authorize: ({ Path, Recursive }) => [
        {
          action: 'ssm:GetParametersByPath',
          resource: this.#arn(Path),
          context: { 'ssm:Recursive': String(Recursive === true) },
        },
      ],
      invoke: (input) => this.#byPath(input),
    },
    GetParameterHistory: {
      authorize: ({ Name }) => [this.#authorization('ssm:GetParameterHistory', Name)],
      invoke: (input) => this.#history(input),
    },
    PutParameter: {
      authorize: (input) => this.#putAuthorizations(input),
      invoke: (input, caller) => this.#put(input, caller.roleArn),
    },
  };

  /** Operations on tags name the type of the resource; only parameters are modelled. */
  readonly tagOperations: Readonly<Record<string, Operation>> = {
    ListTagsForResource: {
      authorize: ({ ResourceId }) => [this.#authorization('ssm:ListTagsForResource', ResourceId)],
      invoke: (input) => {
        onlyKnown('ListTagsForResource', input, ['ResourceType', 'ResourceId']);
        const { tags } = this.#tagged(input);
        return { TagList: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) };
      },
    },
    AddTagsToResource: {
      authorize: ({ ResourceId, Tags }) => {
        const { context, ...authorization } = this.#authorization('ssm:AddTagsToResource', ResourceId);
        return [{ ...authorization, context: { ...context, ...requestTagContext(fromTagList(Tags)) } }];
      },
      invoke: (input) => {
        onlyKnown('AddTagsToResource', input, ['ResourceType', 'ResourceId', 'Tags']);
        const parameter = this.#tagged(input);
        parameter.tags = { ...parameter.tags, ...fromTagList(input.Tags) };
        return {};
      },
    },
    RemoveTagsFromResource: {
      authorize: ({ ResourceId, TagKeys }) => {
        const { context, ...authorization } = this.#authorization('ssm:RemoveTagsFromResource', ResourceId);
        return [{ ...authorization, context: { ...context, 'aws:TagKeys': TagKeys } }];
      },
      invoke: (input) => {
        onlyKnown('RemoveTagsFromResource', input, ['ResourceType', 'ResourceId', 'TagKeys']);
        const parameter = this.#tagged(input);
        const kept = Object.entries(parameter.tags).filter(([key]) => !input.TagKeys.includes(key));
        parameter.tags = Object.fromEntries(kept);
        return {};
      },
    },
  };

  /** `AWS::SSM::Parameter` */
  readonly handler: ResourceHandler = {
    create: (logicalId, properties, stack) => {
      const name = properties.Name ?? stack.physicalName(logicalId);
      this.#write({ ...this.#fromProperties(properties), name, overwrite: false });
      return this.#resource(name);
    },
    update: (created, properties, previous) => {
      for (const fixed of ['Name', 'Type']) {
        if (properties[fixed] !== previous[fixed])
          throw new NotModelled(`AWS::SSM::Parameter: a change of ${fixed} replaces the parameter`);
      }
      this.#write({ ...this.#fromProperties(properties), name: created.ref, overwrite: true });
    },
    delete: (created) => {
      this.#parameters.delete(created.ref);
    },
  };

  /**
   * The current value of a parameter, for who deploys a template.
   * @throws AwsError ParameterNotFound
   */
  valueOf(name: string): string {
    return this.#current(this.#get(name)).value;
  }

  /** A new value of a public parameter, from AWS. */
  publish(name: string, value: string): void {
    this.#write({ name, value, type: 'String', overwrite: true, by: 'arn:aws:iam::aws:root' });
  }

  #tagged({ ResourceType, ResourceId }: Shape): Parameter {
    onlyValue('ResourceType', ResourceType, ['Parameter']);
    const parameter = this.#parameters.get(ResourceId);
    if (!parameter) throw new AwsError('InvalidResourceId', '');
    return parameter;
  }

  #get(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (!parameter) throw new AwsError('ParameterNotFound', '');
    return parameter;
  }

  #current(parameter: Parameter): ParameterVersion {
    return parameter.versions.at(-1) as ParameterVersion;
  }

  /** `name`, `name:version`, or an ARN of either. */
  #nameOf(selector: string): string {
    const name = selector.startsWith('arn:') ? selector.replace(/^.*?:parameter/, '') : selector;
    return name.split(':')[0] ?? name;
  }

  #select(
    selector: string,
  ): { parameter: Parameter; version: ParameterVersion; selector?: string } | { missing: string } {
    const parameter = this.#parameters.get(this.#nameOf(selector));
    if (!parameter) return { missing: 'ParameterNotFound' };
    const [, wanted] = selector.replace(/^arn:.*?:parameter/, '').split(':');
    if (wanted === undefined) return { parameter, version: this.#current(parameter) };
    if (!/^\d+$/.test(wanted)) throw new NotModelled(`parameter labels (${selector})`);
    const version = parameter.versions.find((candidate) => candidate.version === Number(wanted));
    return version ? { parameter, version, selector: `:${wanted}` } : { missing: 'ParameterVersionNotFound' };
  }

  // SecureString values are under the AWS managed key aws/ssm. Its key policy lets every principal of the account that
  // Systems Manager has authorized use it, so no kms permission is needed.
  #shownValue({ type, value }: ParameterVersion, decrypted: boolean): string {
    return type === 'SecureString' && !decrypted ? Buffer.from(`encrypted:${value}`).toString('base64') : value;
  }

  #describe(
    { parameter, version, selector }: { parameter: Parameter; version: ParameterVersion; selector?: string },
    decrypted: boolean,
  ): Shape {
    return {
      Name: parameter.name,
      Type: version.type,
      Value: this.#shownValue(version, decrypted),
      Version: version.version,
      ...(selector && { Selector: selector }),
      LastModifiedDate: new Date(version.modifiedAt),
      ARN: this.#arn(parameter.name),
      DataType: 'text',
    };
  }

  #byPath(input: Shape): Shape {
    onlyKnown('GetParametersByPath', input, ['Path', 'Recursive', 'WithDecryption', 'MaxResults', 'NextToken']);
    const prefix = input.Path.endsWith('/') ? input.Path : `${input.Path}/`;
    const names = [...this.#parameters.keys()]
      .filter((name) => name.startsWith(prefix) && (input.Recursive || !name.slice(prefix.length).includes('/')))
      .sort();
    const from = input.NextToken === undefined ? 0 : Number(input.NextToken);
    const to = from + (input.MaxResults ?? MAX_NAMES_PER_REQUEST);
    return {
      Parameters: names.slice(from, to).map((name) => {
        const parameter = this.#get(name);
        return this.#describe({ parameter, version: this.#current(parameter) }, input.WithDecryption === true);
      }),
      ...(to < names.length && { NextToken: String(to) }),
    };
  }

  #history(input: Shape): Shape {
    onlyKnown('GetParameterHistory', input, ['Name', 'WithDecryption', 'MaxResults', 'NextToken']);
    const parameter = this.#get(this.#nameOf(input.Name));
    const from = input.NextToken === undefined ? 0 : Number(input.NextToken);
    const to = from + (input.MaxResults ?? 50);
    return {
      Parameters: parameter.versions.slice(from, to).map((version) => ({
        Name: parameter.name,
        Type: version.type,
        ...(version.type === 'SecureString' && { KeyId: 'alias/aws/ssm' }),
        LastModifiedDate: new Date(version.modifiedAt),
        LastModifiedUser: version.modifiedBy,
        ...(version.description !== undefined && { Description: version.description }),
        Value: this.#shownValue(version, input.WithDecryption === true),
        ...(version.allowedPattern !== undefined && { AllowedPattern: version.allowedPattern }),
        Version: version.version,
        Labels: [],
        Tier: 'Standard',
        Policies: [],
        DataType: 'text',
      })),
      ...(to < parameter.versions.length && { NextToken: String(to) }),
    };
  }

  #putAuthorizations(input: Shape): Authorization[] {
    const resource = this.#arn(input.Name);
    const requested = requestTagContext(fromTagList(input.Tags));
    const put = this.#authorization('ssm:PutParameter', input.Name);
    const overwrite = { 'ssm:Overwrite': String(input.Overwrite === true) };
    const authorizations: Authorization[] = [{ ...put, context: { ...put.context, ...overwrite, ...requested } }];
    if (input.Tags?.length > 0) authorizations.push({ action: 'ssm:AddTagsToResource', resource, context: requested });
    return authorizations;
  }

  #put(input: Shape, by: string): Shape {
    onlyKnown('PutParameter', input, [
      'Name',
      'Description',
      'Value',
      'Type',
      'KeyId',
      'Overwrite',
      'AllowedPattern',
      'Tags',
      'Tier',
      'DataType',
    ]);
    onlyValue('PutParameter KeyId', input.KeyId, ['alias/aws/ssm']);
    onlyValue('PutParameter Tier', input.Tier, ['Standard']);
    onlyValue('PutParameter DataType', input.DataType, ['text']);
    if (input.Overwrite && input.Tags?.length > 0) {
      throw new AwsError(
        'ValidationException',
        "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.",
      );
    }
    const version = this.#write({
      name: input.Name,
      value: input.Value,
      type: input.Type,
      description: input.Description,
      allowedPattern: input.AllowedPattern,
      tags: fromTagList(input.Tags),
      overwrite: input.Overwrite === true,
      by,
    });
    return { Version: version, Tier: 'Standard' };
  }

  #write(write: Write): number {
    const existing = this.#parameters.get(write.name);
    if (existing && !write.overwrite) {
      throw new AwsError(
        'ParameterAlreadyExists',
        'The parameter already exists. To overwrite this value, set the overwrite option in the request to true.',
      );
    }
    const type = write.type ?? (existing && this.#current(existing).type);
    if (!type) {
      throw new AwsError('ValidationException', 'A parameter type is required when you create a parameter.');
    }
    if (!write.value) {
      throw new AwsError(
        'ValidationException',
        "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length greater than or equal to 1.",
      );
    }
    if (write.value.length > MAX_VALUE_LENGTH) {
      throw new AwsError(
        'ValidationException',
        'Standard tier parameters support a maximum parameter value of 4096 characters.',
      );
    }
    if (existing && this.#current(existing).type !== type) {
      throw new AwsError('HierarchyTypeMismatch', "A parameter of one type can't be changed to another type.");
    }
    if (write.allowedPattern !== undefined && !new RegExp(`^(?:${write.allowedPattern})$`).test(write.value)) {
      throw new AwsError(
        'ParameterPatternMismatchException',
        `Parameter value, cannot be validated against allowedPattern: ${write.allowedPattern}`,
      );
    }
    const parameter = existing ?? { name: write.name, versions: [], tags: {} };
    const version = (parameter.versions.at(-1)?.version ?? 0) + 1;
    parameter.versions.push({
      version,
      value: write.value,
      type,
      description: write.description,
      allowedPattern: write.allowedPattern,
      modifiedAt: this.#cloud.clock.now(),
      modifiedBy: write.by,
    });
    parameter.versions = parameter.versions.slice(-MAX_VERSIONS);
    if (write.tags) parameter.tags = { ...parameter.tags, ...write.tags };
    this.#parameters.set(write.name, parameter);
    return version;
  }

  #fromProperties(properties: Shape): Omit<Write, 'name' | 'overwrite'> {
    onlyKnown('AWS::SSM::Parameter', properties, [
      'Name',
      'Type',
      'Value',
      'Description',
      'AllowedPattern',
      'Tags',
      'Tier',
      'DataType',
    ]);
    onlyValue('AWS::SSM::Parameter Type', properties.Type, ['String', 'StringList']);
    onlyValue('AWS::SSM::Parameter Tier', properties.Tier, ['Standard']);
    onlyValue('AWS::SSM::Parameter DataType', properties.DataType, ['text']);
    return {
      value: properties.Value,
      type: properties.Type,
      description: properties.Description,
      allowedPattern: properties.AllowedPattern,
      tags: properties.Tags ?? {},
      by: `arn:aws:iam::${this.#cloud.account}:role/cloudformation`,
    };
  }

  #resource(name: string): CreatedResource {
    const { type, value } = this.#current(this.#get(name));
    return { ref: name, attributes: { Type: type, Value: value } };
  }

  // A leading slash of the name is not doubled in the ARN, and public parameters belong to no account.
  #arn(selector: string): string {
    const name = this.#nameOf(selector);
    const resource = `parameter/${name.replace(/^\//, '')}`;
    return name.startsWith('/aws/service/')
      ? `arn:aws:ssm:${this.#cloud.region}::${resource}`
      : this.#cloud.arn('ssm', resource);
  }

  #authorization(action: string, selector: string): Authorization {
    const tags = this.#parameters.get(this.#nameOf(selector))?.tags ?? {};
    return { action, resource: this.#arn(selector), context: resourceTagContext(tags, ['aws:ResourceTag']) };
  }
}

function onlyValue(what: string, value: unknown, modelled: readonly string[]): void {
  if (value !== undefined && !modelled.includes(String(value))) throw new NotModelled(`${what}: ${String(value)}`);
}
