import { AwsError, NotModelled, type Shape } from './kernel.ts';

/** Tells whether a value of the event (undefined where it has none) is as the pattern wants it. */
type Matcher = (value: unknown) => boolean;

/**
 * Makes a matcher of an EventBridge event pattern.
 * @see docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
 * @throws AwsError InvalidEventPatternException; NotModelled for an operator that is not modelled
 */
export function compilePattern(pattern: Shape): (event: object) => boolean {
  return compileObject(pattern);
}

function compileObject(pattern: Shape): Matcher {
  if (typeof pattern !== 'object' || pattern === null || Array.isArray(pattern)) {
    throw invalid(`Filter is not an object: ${JSON.stringify(pattern)}`);
  }
  const fields = Object.entries<Shape>(pattern).map(([key, wanted]): Matcher => {
    if (key === '$or') return compileOr(wanted);
    const matches = Array.isArray(wanted) ? compileLeaf(wanted) : compileObject(wanted);
    return (value) => matches(isObject(value) ? value[key] : undefined);
  });
  const all: Matcher = (value) => fields.every((matches) => matches(value));
  // An array of objects matches when one of them does.
  return (value) => (Array.isArray(value) ? value.some(all) : all(value));
}

function compileOr(alternatives: unknown): Matcher {
  if (!Array.isArray(alternatives) || alternatives.length < 2) throw invalid('$or needs at least two patterns');
  const matchers = alternatives.map(compileObject);
  return (value) => matchers.some((matches) => matches(value));
}

/** One of the wanted values has to match; an array in the event matches when one of its elements does. */
function compileLeaf(wanted: readonly unknown[]): Matcher {
  if (wanted.length === 0) throw invalid('Empty arrays are not allowed');
  const matchers = wanted.map((item) => (isObject(item) ? compileOperator(item) : ofEach((value) => value === item)));
  return (value) => matchers.some((matches) => matches(value));
}

function compileOperator(operator: Readonly<Record<string, unknown>>): Matcher {
  const [[name, argument] = [], ...rest] = Object.entries(operator);
  if (name === undefined || rest.length > 0) throw invalid('Only one key allowed in match expression');
  switch (name) {
    case 'exists':
      if (typeof argument !== 'boolean') throw invalid('exists match pattern must be either true or false.');
      return (value) => isLeaf(value) === argument;
    case 'numeric':
      return ofEach(compileNumeric(argument));
    case 'anything-but':
      return compileAnythingBut(argument);
    default:
      return ofEach(compileString(name, argument));
  }
}

/** Operators on strings, which may stand by themselves or within anything-but. */
function compileString(name: string, argument: unknown): Matcher {
  const ignoresCase = (name === 'prefix' || name === 'suffix') && isObject(argument);
  const wanted = ignoresCase ? argument['equals-ignore-case'] : argument;
  if (typeof wanted !== 'string') throw invalid(`${name} match pattern must be a string`);
  const fold = (text: string) => (ignoresCase || name === 'equals-ignore-case' ? text.toLowerCase() : text);
  const text = fold(wanted);
  switch (name) {
    case 'prefix':
      return (value) => typeof value === 'string' && fold(value).startsWith(text);
    case 'suffix':
      return (value) => typeof value === 'string' && fold(value).endsWith(text);
    case 'equals-ignore-case':
      return (value) => typeof value === 'string' && fold(value) === text;
    case 'wildcard': {
      if (text.includes('**')) throw invalid('Consecutive wildcard characters');
      if (text.includes('\\')) throw new NotModelled('an escape in an event pattern wildcard');
      const expression = new RegExp(`^${text.replace(/[.+?^${}()|[\]]/g, '\\$&').replaceAll('*', '.*')}$`, 's');
      return (value) => typeof value === 'string' && expression.test(value);
    }
    default:
      throw new NotModelled(`event pattern operator ${name}`);
  }
}

function compileAnythingBut(argument: unknown): Matcher {
  if (!isObject(argument)) {
    const excluded = [argument].flat();
    return ofEach((value) => value !== undefined && !excluded.includes(value));
  }
  const [[name, operand] = ['', undefined]] = Object.entries(argument);
  const matchers = [operand].flat().map((item) => compileString(name, item));
  return ofEach((value) => value !== undefined && !matchers.some((matches) => matches(value)));
}

const COMPARISONS: Readonly<Record<string, (value: number, limit: number) => boolean>> = {
  '=': (value, limit) => value === limit,
  '<': (value, limit) => value < limit,
  '<=': (value, limit) => value <= limit,
  '>': (value, limit) => value > limit,
  '>=': (value, limit) => value >= limit,
};

/** @param argument e.g. `['>=', 0, '<', 10]` */
function compileNumeric(argument: unknown): Matcher {
  if (!Array.isArray(argument) || argument.length === 0) throw invalid('Value of numeric must be an array.');
  const comparisons: ((value: number) => boolean)[] = [];
  for (let i = 0; i < argument.length; i += 2) {
    const compare = COMPARISONS[argument[i]];
    const limit: unknown = argument[i + 1];
    if (!compare || typeof limit !== 'number') throw invalid(`Bad numeric range: ${JSON.stringify(argument)}`);
    comparisons.push((value) => compare(value, limit));
  }
  return (value) => typeof value === 'number' && comparisons.every((holds) => holds(value));
}

function ofEach(matches: Matcher): Matcher {
  return (value) => (Array.isArray(value) ? value.some(matches) : matches(value));
}

/** `exists` looks at leaves only: a field with an object in it does not exist for it. */
function isLeaf(value: unknown): boolean {
  return value !== undefined && !isObject(value);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(reason: string): AwsError {
  return new AwsError('InvalidEventPatternException', `Event pattern is not valid. Reason: ${reason}`);
}
