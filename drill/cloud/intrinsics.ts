import { AwsError, NotModelled } from './kernel.ts';

/** What the intrinsic functions of a template refer to. */
export interface Scope {
  /** A parameter, pseudo parameter or resource; {@link NO_VALUE} for `AWS::NoValue`. */
  ref(name: string): unknown;
  getAtt(logicalId: string, attribute: string): string;
  findInMap(map: string, topLevelKey: string, secondLevelKey: string): unknown;
  /** A condition of the template, by its name. */
  condition(name: string): boolean;
  /** An output that another stack exports. */
  importValue(name: string): string;
  zones(region: string): readonly string[];
}

/** Takes the property, or the element of a list, away. */
export const NO_VALUE = Symbol('AWS::NoValue');

type Intrinsic = (argument: unknown, scope: Scope) => unknown;

const INTRINSICS: Readonly<Record<string, Intrinsic>> = {
  Ref: (argument, scope) => scope.ref(text(argument, 'Ref')),
  'Fn::GetAtt': (argument, scope) => {
    const [logicalId, attribute] = attributeReference(argument, scope);
    return scope.getAtt(logicalId, attribute);
  },
  'Fn::Sub': substitute,
  'Fn::Join': (argument, scope) => {
    const [delimiter, items] = list(argument, 'Fn::Join');
    const resolved = list(resolve(items, scope), 'Fn::Join');
    return resolved.map((item) => text(item, 'Fn::Join')).join(text(delimiter, 'Fn::Join'));
  },
  'Fn::Select': (argument, scope) => {
    const [index, items] = list(argument, 'Fn::Select');
    const selected = list(resolve(items, scope), 'Fn::Select')[Number(resolve(index, scope))];
    if (selected === undefined) throw invalid(`Fn::Select cannot select nonexistent value at index ${index}`);
    return selected;
  },
  'Fn::Split': (argument, scope) => {
    const [delimiter, source] = list(argument, 'Fn::Split');
    return text(resolve(source, scope), 'Fn::Split').split(text(delimiter, 'Fn::Split'));
  },
  'Fn::If': (argument, scope) => {
    const [condition, yes, no] = list(argument, 'Fn::If');
    return resolve(scope.condition(text(condition, 'Fn::If')) ? yes : no, scope);
  },
  'Fn::Base64': (argument, scope) =>
    Buffer.from(text(resolve(argument, scope), 'Fn::Base64'), 'utf8').toString('base64'),
  'Fn::ImportValue': (argument, scope) => scope.importValue(text(resolve(argument, scope), 'Fn::ImportValue')),
  'Fn::FindInMap': (argument, scope) => {
    const [map, top, second, ...rest] = list(resolve(argument, scope), 'Fn::FindInMap');
    if (rest.length > 0) throw new NotModelled('Fn::FindInMap with a default value');
    return scope.findInMap(text(map, 'Fn::FindInMap'), text(top, 'Fn::FindInMap'), text(second, 'Fn::FindInMap'));
  },
  'Fn::GetAZs': (argument, scope) => scope.zones(text(resolve(argument, scope), 'Fn::GetAZs')),
};

const CONDITION_FUNCTIONS: Readonly<Record<string, (argument: unknown, scope: Scope) => boolean>> = {
  Condition: (argument, scope) => scope.condition(text(argument, 'Condition')),
  'Fn::Equals': (argument, scope) => {
    const [left, right] = list(resolve(argument, scope), 'Fn::Equals');
    return String(left) === String(right);
  },
  'Fn::And': (argument, scope) => list(argument, 'Fn::And').every((item) => holds(item, scope)),
  'Fn::Or': (argument, scope) => list(argument, 'Fn::Or').some((item) => holds(item, scope)),
  'Fn::Not': (argument, scope) => !holds(list(argument, 'Fn::Not')[0], scope),
};

/**
 * The value with all intrinsic functions carried out.
 * @throws NotModelled for a function or dynamic reference that is not modelled
 */
export function resolve(value: unknown, scope: Scope): unknown {
  if (typeof value === 'string' && value.includes('{{resolve:')) throw new NotModelled(`dynamic reference ${value}`);
  if (Array.isArray(value)) return value.map((item) => resolve(item, scope)).filter((item) => item !== NO_VALUE);
  if (typeof value !== 'object' || value === null) return value;
  const intrinsic = intrinsicOf(value);
  if (intrinsic) return intrinsic.carryOut(intrinsic.argument, scope);
  const entries = Object.entries(value).map(([key, item]) => [key, resolve(item, scope)] as const);
  return Object.fromEntries(entries.filter(([, item]) => item !== NO_VALUE));
}

/** Whether a condition expression of the template holds. */
export function holds(expression: unknown, scope: Scope): boolean {
  const [name = '', argument] = Object.entries(expression ?? {})[0] ?? [];
  const carryOut = CONDITION_FUNCTIONS[name];
  if (!carryOut) throw new NotModelled(`condition function ${name}`);
  return carryOut(argument, scope);
}

/** The names (of parameters or resources) that the value refers to, in the branches that the conditions choose. */
export function references(value: unknown, scope: Scope): Set<string> {
  const names = new Set<string>();
  collect(value, scope, names);
  return names;
}

function collect(value: unknown, scope: Scope, names: Set<string>): void {
  if (typeof value !== 'object' || value === null) return;
  const { name, argument } = intrinsicOf(value) ?? {};
  if (name === 'Ref') names.add(text(argument, 'Ref'));
  else if (name === 'Fn::GetAtt') names.add(attributeReference(argument, scope)[0]);
  else if (name === 'Fn::If') {
    const [condition, yes, no] = list(argument, 'Fn::If');
    collect(scope.condition(text(condition, 'Fn::If')) ? yes : no, scope, names);
  } else {
    if (name === 'Fn::Sub') {
      const { template, variables } = substitution(argument);
      for (const placeholder of placeholders(template)) {
        if (!(placeholder in variables)) names.add(placeholder.split('.')[0] ?? placeholder);
      }
    }
    for (const item of Object.values(value)) collect(item, scope, names);
  }
}

function intrinsicOf(value: object): { name: string; argument: unknown; carryOut: Intrinsic } | undefined {
  const keys = Object.keys(value);
  const name = keys.find((key) => key === 'Ref' || key.startsWith('Fn::'));
  if (name === undefined) return undefined;
  const carryOut = INTRINSICS[name];
  if (!carryOut) throw new NotModelled(`intrinsic function ${name}`);
  if (keys.length > 1) throw invalid(`an object with ${name} must not have other keys`);
  return { name, argument: Object.values(value)[0], carryOut };
}

function attributeReference(argument: unknown, scope: Scope): [logicalId: string, attribute: string] {
  if (Array.isArray(argument)) {
    return [text(argument[0], 'Fn::GetAtt'), text(resolve(argument[1], scope), 'Fn::GetAtt')];
  }
  const reference = text(argument, 'Fn::GetAtt');
  const dot = reference.indexOf('.');
  return [reference.slice(0, dot), reference.slice(dot + 1)];
}

function substitute(argument: unknown, scope: Scope): string {
  const { template, variables } = substitution(argument);
  return template.replace(PLACEHOLDER, (_match, literal: string, name: string) => {
    if (literal) return `\${${name}}`;
    if (name in variables) return text(resolve(variables[name], scope), 'Fn::Sub');
    const dot = name.indexOf('.');
    const value = dot < 0 ? scope.ref(name) : scope.getAtt(name.slice(0, dot), name.slice(dot + 1));
    return text(value, 'Fn::Sub');
  });
}

/** `${Name}`, `${Resource.Attribute}`, and `${!Literal}`, which stands for `${Literal}` */
const PLACEHOLDER = /\$\{(!?)([^}]+)\}/g;

function placeholders(template: string): string[] {
  return [...template.matchAll(PLACEHOLDER)].flatMap(([, literal, name]) => (literal || !name ? [] : [name]));
}

function substitution(argument: unknown): { template: string; variables: Readonly<Record<string, unknown>> } {
  const [template, variables = {}] = Array.isArray(argument) ? argument : [argument];
  return { template: text(template, 'Fn::Sub'), variables };
}

function text(value: unknown, where: string): string {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw invalid(`${where} needs a string, not ${JSON.stringify(value)}`);
}

function list(value: unknown, where: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalid(`${where} needs a list, not ${JSON.stringify(value)}`);
}

function invalid(message: string): AwsError {
  return new AwsError('ValidationError', `Template error: ${message}`);
}
