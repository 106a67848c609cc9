import type { Shape } from '../../drill/cloud/kernel.ts';
import { resourcesOf, textOf } from '../infra/template.ts';

/** A state of a workflow, and the ways out of it. */
export interface State {
  readonly name: string;
  readonly definition: Shape;
  /** Inside a Parallel state, whose own Catch takes what is not caught here. */
  readonly inBranch: boolean;
  /** Where it goes when nothing fails. */
  readonly next: readonly string[];
  readonly caught: readonly { readonly errors: readonly string[]; readonly next: string }[];
}

export interface Machine {
  readonly name: string;
  readonly definition: Shape;
  readonly states: ReadonlyMap<string, State>;
}

/** The state machines of the templates, by the construct that makes them. */
export function machines(): Machine[] {
  return resourcesOf('AWS::StepFunctions::StateMachine').map(({ path, properties }) => {
    const definition: Shape = JSON.parse(textOf(properties.DefinitionString).replaceAll('<AWS::Partition>', 'aws'));
    const states = new Map<string, State>();
    collect(definition, false, states);
    return { name: path.split('/')[0] ?? '', definition, states };
  });
}

function collect(scope: Shape, inBranch: boolean, states: Map<string, State>): void {
  for (const [name, definition] of Object.entries<Shape>(scope.States)) {
    if (states.has(name)) throw new Error(`two states are named ${name}`);
    const branches: Shape[] = definition.Branches ?? [];
    const next = [
      definition.Next,
      definition.Default,
      ...(definition.Choices ?? []).map((choice: Shape) => choice.Next),
      ...branches.map((branch) => branch.StartAt),
    ].filter((each) => each !== undefined);
    const caught = (definition.Catch ?? []).map((each: Shape) => ({ errors: each.ErrorEquals, next: each.Next }));
    states.set(name, { name, definition, inBranch, next, caught });
    for (const branch of branches) collect(branch, true, states);
  }
}

/** All states that can follow the given one, itself included. */
export function reachableFrom(machine: Machine, start: string): State[] {
  const found = new Map<string, State>();
  const open = [start];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const state = machine.states.get(name);
    if (!state) throw new Error(`${machine.name} has no state ${name}`);
    if (found.has(name)) continue;
    found.set(name, state);
    open.push(...state.next, ...state.caught.map((each) => each.next));
  }
  return [...found.values()];
}
