import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import { compile, expressionIn } from './expressions.ts';
import { checkArguments, type Integration, parseResource } from './integrations.ts';

/** States that follow one another: a machine, a branch of Parallel, the ItemProcessor of Map. */
export interface Flow {
  readonly StartAt: string;
  readonly States: Readonly<Record<string, State>>;
}

export interface Definition extends Flow {
  readonly TimeoutSeconds?: number;
}

export interface Retrier {
  readonly ErrorEquals: readonly string[];
  readonly IntervalSeconds?: number;
  readonly MaxAttempts?: number;
  readonly BackoffRate?: number;
  readonly MaxDelaySeconds?: number;
  readonly JitterStrategy?: 'FULL' | 'NONE';
}

/** What a state, a Choice rule or a Catch may compute on the way out. */
interface Leaving {
  readonly Output?: unknown;
  readonly Assign?: Readonly<Record<string, unknown>>;
}

export interface Catcher extends Leaving {
  readonly ErrorEquals: readonly string[];
  readonly Next: string;
}

interface Step extends Leaving {
  readonly Next?: string;
}

interface Attempted extends Step {
  readonly Arguments?: unknown;
  readonly Retry?: readonly Retrier[];
  readonly Catch?: readonly Catcher[];
}

export interface TaskState extends Attempted {
  readonly Type: 'Task';
  readonly Resource: string;
  readonly integration: Integration;
  readonly TimeoutSeconds?: number | string;
  readonly HeartbeatSeconds?: number | string;
}

export interface ParallelState extends Attempted {
  readonly Type: 'Parallel';
  readonly Branches: readonly Flow[];
}

export interface MapState extends Attempted {
  readonly Type: 'Map';
  readonly Items?: unknown;
  readonly ItemSelector?: unknown;
  readonly ItemProcessor: Flow;
  readonly MaxConcurrency?: number | string;
}

export interface ChoiceState extends Leaving {
  readonly Type: 'Choice';
  readonly Choices: readonly (Leaving & { readonly Condition: string | boolean; readonly Next: string })[];
  readonly Default?: string;
}

export interface WaitState extends Step {
  readonly Type: 'Wait';
  readonly Seconds?: number | string;
  readonly Timestamp?: string;
}

export interface PassState extends Step {
  readonly Type: 'Pass';
}

export interface SucceedState {
  readonly Type: 'Succeed';
  readonly Output?: unknown;
}

export interface FailState {
  readonly Type: 'Fail';
  readonly Error?: string;
  readonly Cause?: string;
}

export type State =
  | TaskState
  | ParallelState
  | MapState
  | ChoiceState
  | WaitState
  | PassState
  | SucceedState
  | FailState;

const COMMON = ['Type', 'Comment', 'QueryLanguage'];
const STEP = [...COMMON, 'Next', 'End', 'Output', 'Assign'];
const ATTEMPTED = [...STEP, 'Retry', 'Catch'];

const FIELDS: Readonly<Record<State['Type'], readonly string[]>> = {
  Task: [...ATTEMPTED, 'Resource', 'Arguments', 'TimeoutSeconds', 'HeartbeatSeconds'],
  Parallel: [...ATTEMPTED, 'Arguments', 'Branches'],
  Map: [...ATTEMPTED, 'Items', 'ItemSelector', 'ItemProcessor', 'MaxConcurrency'],
  Choice: [...COMMON, 'Output', 'Assign', 'Choices', 'Default'],
  Wait: [...STEP, 'Seconds', 'Timestamp'],
  Pass: STEP,
  Succeed: [...COMMON, 'Output'],
  Fail: [...COMMON, 'Error', 'Cause'],
};

const VARIABLE_NAME = /^[\p{ID_Start}][\p{ID_Continue}]{0,79}$/u;

/** Which members of `$states` an expression may read beside `input` and `context`. */
type Readable = 'result' | 'errorOutput' | undefined;

/** What a definition is checked against. */
export interface DefinitionOptions {
  readonly type: 'STANDARD' | 'EXPRESS';
  /** Whether the local cloud can carry out this API operation. */
  models(integration: Integration): boolean;
}

function invalid(problem: string, path: string, kind = 'SCHEMA_VALIDATION_FAILED'): AwsError {
  return new AwsError('InvalidDefinition', `Invalid State Machine Definition: '${kind}: ${problem} at ${path}'`);
}

/**
 * Reads a definition in the Amazon States Language (JSONata), and refuses what AWS refuses and what the local cloud
 * does not model, so that nothing is left to be found out while it runs.
 * @throws AwsError `InvalidDefinition`; NotModelled for JSONPath, unknown fields and unknown integrations
 */
export function parseDefinition(source: Shape, options: DefinitionOptions): Definition {
  onlyKnown('a state machine definition', source, [
    'Comment',
    'StartAt',
    'States',
    'QueryLanguage',
    'TimeoutSeconds',
    'Version',
  ]);
  const reader = new Reader(options, source.QueryLanguage ?? 'JSONPath');
  const flow = reader.flow(source, '', []);
  if (source.TimeoutSeconds === undefined) return flow;
  if (!isPositive(source.TimeoutSeconds)) throw invalid('TimeoutSeconds must be a positive integer', '/TimeoutSeconds');
  return { ...flow, TimeoutSeconds: source.TimeoutSeconds };
}

function isPositive(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0;
}

class Reader {
  readonly #options: DefinitionOptions;
  readonly #language: string;
  readonly #names = new Set<string>();

  constructor(options: DefinitionOptions, language: string) {
    this.#options = options;
    this.#language = language;
  }

  /** @param outer the variables that the enclosing scopes assign, which an inner scope must not assign again */
  flow(source: Shape, path: string, outer: readonly string[]): Flow {
    if (typeof source?.StartAt !== 'string') throw invalid('The field StartAt is required', path || '/');
    const sources = Object.entries<Shape>(source.States ?? {});
    const assigned = sources.flatMap(([, state]) => assignedBy(state));
    const clash = assigned.find((name) => outer.includes(name));
    if (clash !== undefined) throw invalid(`The variable '${clash}' is assigned in an outer scope too`, path || '/');
    const scope = [...outer, ...assigned];
    const states: Record<string, State> = {};
    for (const [name, state] of sources) {
      const at = `${path}/States/${name}`;
      if (this.#names.has(name)) throw invalid(`There are two states named '${name}'`, at, 'DUPLICATE_STATE_NAME');
      this.#names.add(name);
      states[name] = this.#state(state, at, scope);
    }
    const flow = { StartAt: source.StartAt, States: states };
    checkTransitions(flow, path);
    return flow;
  }

  #state(source: Shape, path: string, scope: readonly string[]): State {
    const language = source.QueryLanguage ?? this.#language;
    if (language !== 'JSONata') throw new NotModelled(`${path}: the local cloud interprets JSONata, not ${language}`);
    const known = FIELDS[source.Type as State['Type']];
    if (!known) throw invalid(`'${source.Type}' is not a state type`, `${path}/Type`);
    onlyKnown(path, source, known);
    this.#leaving(source, path, ['Task', 'Parallel', 'Map'].includes(source.Type) ? 'result' : undefined);
    if (known.includes('End') && (source.Next === undefined) === (source.End !== true)) {
      throw invalid('Exactly one of Next and End is required', path);
    }
    for (const field of ['Arguments', 'Items', 'ItemSelector', 'MaxConcurrency', 'Seconds', 'Timestamp']) {
      this.#expressions(source[field], `${path}/${field}`);
    }
    for (const field of ['TimeoutSeconds', 'HeartbeatSeconds', 'Error', 'Cause']) {
      this.#expressions(source[field], `${path}/${field}`);
    }
    this.#errorHandling(source, path);
    switch (source.Type as State['Type']) {
      case 'Task':
        return this.#task(source, path);
      case 'Parallel':
        return this.#parallel(source, path, scope);
      case 'Map':
        return this.#map(source, path, scope);
      case 'Choice':
        return this.#choice(source, path);
      case 'Wait':
        if ((source.Seconds === undefined) === (source.Timestamp === undefined)) {
          throw invalid('Exactly one of Seconds and Timestamp is required', path);
        }
        return source;
      default:
        return source;
    }
  }

  #task(source: Shape, path: string): TaskState {
    const integration = parseResource(source.Resource, path);
    if (!this.#options.models(integration)) {
      throw new NotModelled(`${path}: the local cloud does not model ${integration.service}:${integration.operation}`);
    }
    if (integration.waitForTaskToken && this.#options.type === 'EXPRESS') {
      throw invalid(
        "Express state machine does not support '.waitForTaskToken' service integration",
        `${path}/Resource`,
      );
    }
    if (source.HeartbeatSeconds !== undefined && !integration.waitForTaskToken) {
      throw new NotModelled(`${path}: the local cloud models HeartbeatSeconds of .waitForTaskToken tasks alone`);
    }
    for (const field of ['TimeoutSeconds', 'HeartbeatSeconds']) {
      const value = source[field];
      if (typeof value === 'number' && !isPositive(value)) {
        throw invalid(`${field} must be a positive integer`, `${path}/${field}`);
      }
    }
    const { HeartbeatSeconds, TimeoutSeconds } = source;
    if (
      typeof HeartbeatSeconds === 'number' &&
      typeof TimeoutSeconds === 'number' &&
      HeartbeatSeconds >= TimeoutSeconds
    ) {
      throw invalid('HeartbeatSeconds must be smaller than TimeoutSeconds', `${path}/HeartbeatSeconds`);
    }
    if (typeof source.Arguments === 'object') checkArguments(integration, source.Arguments, path);
    return { ...source, integration };
  }

  #parallel(source: Shape, path: string, scope: readonly string[]): ParallelState {
    const branches = (source.Branches ?? []).map((branch: Shape, index: number) => {
      onlyKnown(`${path}/Branches[${index}]`, branch, ['Comment', 'StartAt', 'States']);
      return this.flow(branch, `${path}/Branches[${index}]`, scope);
    });
    if (branches.length === 0) throw invalid('A Parallel state needs a branch', `${path}/Branches`);
    return { ...source, Branches: branches };
  }

  #map(source: Shape, path: string, scope: readonly string[]): MapState {
    const processor = source.ItemProcessor;
    onlyKnown(`${path}/ItemProcessor`, processor, ['Comment', 'ProcessorConfig', 'StartAt', 'States']);
    onlyKnown(`${path}/ItemProcessor/ProcessorConfig`, processor?.ProcessorConfig, ['Mode']);
    if ((processor?.ProcessorConfig?.Mode ?? 'INLINE') !== 'INLINE') {
      throw new NotModelled(`${path}: the local cloud does not model distributed Map`);
    }
    return { ...source, ItemProcessor: this.flow(processor, `${path}/ItemProcessor`, scope) };
  }

  #choice(source: Shape, path: string): ChoiceState {
    if (!Array.isArray(source.Choices) || source.Choices.length === 0) {
      throw invalid('A Choice state needs a rule', `${path}/Choices`);
    }
    for (const [index, rule] of source.Choices.entries()) {
      const at = `${path}/Choices[${index}]`;
      onlyKnown(at, rule, ['Condition', 'Next', 'Output', 'Assign', 'Comment']);
      if (rule.Condition === undefined || typeof rule.Next !== 'string') {
        throw invalid('A rule needs Condition and Next', at);
      }
      this.#expressions(rule.Condition, `${at}/Condition`);
      this.#leaving(rule, at, undefined);
    }
    return source;
  }

  #errorHandling(source: Shape, path: string): void {
    for (const field of ['Retry', 'Catch']) {
      const handlers: Shape[] = source[field] ?? [];
      for (const [index, handler] of handlers.entries()) {
        const at = `${path}/${field}[${index}]`;
        const names: unknown = handler.ErrorEquals;
        if (!Array.isArray(names) || names.length === 0) throw invalid('ErrorEquals must name an error', at);
        if (names.includes('States.ALL') && (names.length > 1 || index < handlers.length - 1)) {
          throw invalid('States.ALL must stand alone and last', `${at}/ErrorEquals`);
        }
        if (field === 'Retry') checkRetrier(handler, at);
        else {
          onlyKnown(at, handler, ['ErrorEquals', 'Next', 'Output', 'Assign', 'Comment']);
          this.#leaving(handler, at, 'errorOutput');
        }
      }
    }
  }

  #leaving(source: Shape, path: string, readable: Readable): void {
    this.#expressions(source.Output, `${path}/Output`, readable);
    this.#expressions(source.Assign, `${path}/Assign`, readable);
    for (const name of Object.keys(source.Assign ?? {})) {
      if (!VARIABLE_NAME.test(name) || name === 'states') {
        throw invalid(`'${name}' is not a variable name`, `${path}/Assign`);
      }
    }
  }

  /** Compiles every expression in a value, and checks what it reads of `$states`. */
  #expressions(value: unknown, path: string, readable?: Readable): void {
    if (typeof value === 'object' && value !== null) {
      for (const [key, member] of Object.entries(value)) this.#expressions(member, `${path}/${key}`, readable);
    }
    if (typeof value !== 'string') return;
    const expression = expressionIn(value);
    if (expression === undefined) {
      if (value.startsWith('{%') || value.endsWith('%}')) throw invalid('The JSONata expression is not closed', path);
      return;
    }
    try {
      compile(expression);
    } catch (error) {
      throw invalid(`The JSONata expression does not parse: ${(error as { message: string }).message}`, path);
    }
    for (const [, member] of expression.matchAll(/\$states\s*\.\s*(result|errorOutput)\b/g)) {
      if (member !== readable) throw invalid(`$states.${member} cannot be read here`, path);
    }
  }
}

function checkRetrier(retrier: Shape, path: string): void {
  onlyKnown(path, retrier, [
    'ErrorEquals',
    'IntervalSeconds',
    'MaxAttempts',
    'BackoffRate',
    'MaxDelaySeconds',
    'JitterStrategy',
    'Comment',
  ]);
  const { IntervalSeconds = 1, MaxAttempts = 3, BackoffRate = 2, MaxDelaySeconds, JitterStrategy = 'NONE' } = retrier;
  if (!isPositive(IntervalSeconds)) throw invalid('IntervalSeconds must be a positive integer', path);
  if (MaxAttempts !== 0 && !isPositive(MaxAttempts)) throw invalid('MaxAttempts must be a whole number', path);
  if (typeof BackoffRate !== 'number' || BackoffRate < 1) throw invalid('BackoffRate must be at least 1', path);
  if (MaxDelaySeconds !== undefined && !(isPositive(MaxDelaySeconds) && MaxDelaySeconds > IntervalSeconds)) {
    throw invalid('MaxDelaySeconds must be greater than IntervalSeconds', path);
  }
  if (!['FULL', 'NONE'].includes(JitterStrategy)) throw invalid('JitterStrategy must be FULL or NONE', path);
}

function assignedBy(state: Shape): string[] {
  const places: Shape[] = [state, ...(state?.Choices ?? []), ...(state?.Catch ?? [])];
  return [...new Set(places.flatMap((place) => Object.keys(place?.Assign ?? {})))];
}

function successors(state: State): string[] {
  const next = 'Next' in state && state.Next !== undefined ? [state.Next] : [];
  const fallback = 'Default' in state && state.Default !== undefined ? [state.Default] : [];
  const rules = state.Type === 'Choice' ? state.Choices.map((rule) => rule.Next) : [];
  const catchers = 'Catch' in state ? (state.Catch ?? []).map((catcher) => catcher.Next) : [];
  return [...next, ...fallback, ...rules, ...catchers];
}

function checkTransitions(flow: Flow, path: string): void {
  const reached = new Set<string>();
  const waiting = [flow.StartAt];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    const state = flow.States[name];
    if (!state) throw invalid(`Missing 'Next' target: ${name}`, `${path}/States`, 'MISSING_TRANSITION_TARGET');
    if (reached.has(name)) continue;
    reached.add(name);
    waiting.push(...successors(state));
  }
  const lost = Object.keys(flow.States).find((name) => !reached.has(name));
  if (lost !== undefined) {
    throw invalid(`State "${lost}" is not reachable.`, `${path}/States/${lost}`, 'MISSING_TRANSITION_TARGET');
  }
}
