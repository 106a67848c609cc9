import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import type { Shape } from '../../drill/cloud/kernel.ts';
import * as errors from '../../functions/core/errors.ts';
import { resourcesOf } from '../infra/template.ts';
import { type Machine, machines, reachableFrom, type State } from './machines.ts';

type Validate = (definition: Shape) => {
  readonly isValid: boolean;
  readonly errorsText: (separator: string) => string;
};
/** It comes without types. */
const validate: Validate = createRequire(import.meta.url)('asl-validator');

/** Tasks whose failure fails the whole execution, each with its reason. */
const UNCAUGHT: Readonly<Record<string, string>> = {
  'Read its tags': 'on-interruption called synchronously, throws, and EventBridge retries the event',
  'Note the time on the host': 'on-interruption called synchronously, throws, and EventBridge retries the event',
};

/** Failures that do not end a relocation, each with its reason. */
const SURVIVED: Readonly<Record<string, string>> = {
  'Arm a replacement': 'there is another attempt',
  Checkpoint: 'it only shortens the stop',
  'Checkpoint: look': 'it only shortens the stop',
  'Ask the host': 'it is asked again, and Verify finds out what it does not say',
  Verify: 'it is asked again, and another host takes over if that does not help',
  'Verify: look': 'it is asked again, and another host takes over if that does not help',
  'Tell people that a host does not serve': 'that a mail cannot be sent must not keep the database down',
  'Tell people that nothing is armed': 'that a mail cannot be sent must not keep the database down',
  'Tell people that it takes long': 'that a mail cannot be sent must not keep the database down',
  'Modify the volume': 'it may have begun all the same, and the modification itself tells',
  'Grow the file system': 'it is tried again, on whichever host has the volume then',
  'Grow the file system: look': 'it is tried again, on whichever host has the volume then',
  'Update the extension': 'it is tried again, on whichever host has the volume then',
  'Update the extension: look': 'it is tried again, on whichever host has the volume then',
  'Prove it': 'another scratch host is launched, three times',
  'Remove the scratch host': 'what was found is known, and reconcile ends what is left',
  'Remove the scratch host: find it': 'what was found is known, and reconcile ends what is left',
  'Remove what did not report': 'reconcile ends what is left',
  'Remove what did not report: find it': 'reconcile ends what is left',
  'Take the census': 'the snapshot is taken all the same, and the backup ends as failed',
  'Take the census: find the host': 'the snapshot is taken all the same, and the backup ends as failed',
  'Take the census: look': 'the snapshot is taken all the same, and the backup ends as failed',
  Publish: 'the relocation is over, and what it came to is in the output of the execution',
};

/** Errors that are no classes of functions/core/errors.ts. */
const ERRORS_OF_AWS: Readonly<Record<string, string>> = {
  'States.ALL': 'docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html',
  UnauthorizedOperation: 'docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html',
  AccessDeniedException: 'the common errors of Systems Manager and Lambda',
};
/** Errors that no workflow tells from others. */
const NOT_DISTINGUISHED: Readonly<Record<string, string>> = {
  LaunchRefused: 'an attempt that failed, like a host that does not arm; people read its message',
};

const ALL = machines();

function each(): [string, Machine][] {
  return ALL.map((machine) => [machine.name, machine]);
}

function tasksOf(machine: Machine): State[] {
  const tasks = [...machine.states.values()].filter(({ definition }) => definition.Type === 'Task');
  expect(tasks).not.toEqual([]);
  return tasks;
}

function catchesAll({ caught }: State): boolean {
  return caught.some(({ errors: names }) => names.includes('States.ALL'));
}

function endsOf(machine: Machine, start: string): Set<string> {
  return new Set(
    reachableFrom(machine, start)
      .map(({ definition }) => definition.Type)
      .filter((type) => type === 'Succeed' || type === 'Fail'),
  );
}

describe.each(each())('the workflow %s', (_, machine) => {
  it('is accepted by asl-validator', () => {
    const result = validate(structuredClone(machine.definition));
    expect(result.isValid, result.errorsText('\n')).toBe(true);
  });

  it('ends by itself, and so does each of its tasks', () => {
    expect(machine.definition.TimeoutSeconds).toBeGreaterThan(0);
    for (const { name, definition } of tasksOf(machine)) {
      const seconds = definition.TimeoutSeconds;
      if (typeof seconds === 'number') expect(seconds, name).toBeLessThan(machine.definition.TimeoutSeconds);
      else expect(seconds, name).toMatch(/^\{%.*%\}$/);
    }
  });

  it('waits longer for a function than the function runs', () => {
    const timeouts = new Map(
      resourcesOf('AWS::Lambda::Function').map(({ logicalId, properties }) => [
        `<${logicalId}.Arn>`,
        properties.Timeout as number,
      ]),
    );
    for (const { name, definition } of tasksOf(machine)) {
      if (definition.Resource !== 'arn:aws:states:::lambda:invoke') continue;
      expect(definition.TimeoutSeconds, name).toBeGreaterThan(
        timeouts.get(definition.Arguments.FunctionName) ?? Infinity,
      );
    }
  });

  it('has no state that nothing leads to', () => {
    const reachable = new Set(reachableFrom(machine, machine.definition.StartAt).map(({ name }) => name));
    expect([...machine.states.keys()].filter((name) => !reachable.has(name))).toEqual([]);
  });

  it('says at its end whether it went well', () => {
    for (const { name, definition, inBranch } of machine.states.values()) {
      if (!inBranch) expect(definition.End, name).toBeUndefined();
    }
  });
});

describe('a failure', () => {
  it('of every task is caught', () => {
    const uncaught = ALL.flatMap(tasksOf).filter((task) => !task.inBranch && !catchesAll(task));
    expect(uncaught.map(({ name }) => name)).toEqual(Object.keys(UNCAUGHT));
  });

  it('of what runs in parallel is caught where the branches meet', () => {
    const parallels = ALL.flatMap((machine) => [...machine.states.values()]).filter(
      ({ definition }) => definition.Type === 'Parallel',
    );
    expect(parallels).not.toEqual([]);
    for (const parallel of parallels) expect(catchesAll(parallel), parallel.name).toBe(true);
  });

  it('that ends a workflow ends it as failed', () => {
    const survived = new Set<string>();
    for (const machine of ALL) {
      for (const { name, caught, inBranch } of machine.states.values()) {
        // A branch cannot end the workflow; what it comes to is a matter of the state after it.
        if (caught.some(({ next }) => inBranch || endsOf(machine, next).has('Succeed'))) survived.add(name);
      }
    }
    expect(survived).toEqual(new Set(Object.keys(SURVIVED)));
  });

  it('that a workflow states itself ends it as failed', () => {
    const stating = ALL.flatMap((machine) =>
      [...machine.states.values()]
        .filter(({ definition }) => definition.Type === 'Pass' && 'failure' in (definition.Assign ?? {}))
        .map(({ name }) => ({ name, ends: endsOf(machine, name) })),
    );
    expect(stating.map(({ name }) => name)).toContain('No host could be armed');
    // Without a census the backup goes on, and a variable, which nobody sees here, makes it end as failed.
    const others = stating.filter(({ name }) => name !== 'Take the census: it does not succeed');
    for (const { name, ends } of others) expect(ends, name).toEqual(new Set(['Fail']));
  });
});

describe('the name of an error', () => {
  const inWorkflows = new Set(
    ALL.flatMap(({ definition }) => {
      const text = JSON.stringify(definition);
      const compared = [...text.matchAll(/[eE]rror = '(\w+)'/g)].map(([, name = '']) => name);
      const listed = [...text.matchAll(/"ErrorEquals":(\[[^\]]*\])/g)].flatMap(([, names = '[]']) => JSON.parse(names));
      return [...compared, ...listed];
    }),
  );

  it('in a workflow is one that a function throws, or one of AWS', () => {
    const known = [...Object.keys(errors), ...Object.keys(ERRORS_OF_AWS)];
    expect([...inWorkflows].filter((name) => !known.includes(name))).toEqual([]);
    expect(Object.keys(ERRORS_OF_AWS).filter((name) => !inWorkflows.has(name))).toEqual([]);
  });

  it('that a function throws matters to a workflow, or it is said why not', () => {
    const ignored = Object.keys(errors).filter((name) => !inWorkflows.has(name));
    expect(ignored).toEqual(Object.keys(NOT_DISTINGUISHED));
  });

  it('is what Lambda reports: the name of its class, also when that is minified', () => {
    for (const [name, Thrown] of Object.entries(errors)) expect(new Thrown('').name).toBe(name);
  });
});
