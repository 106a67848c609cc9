import { describe, expect, inject, it } from 'vitest';
import type { Faults } from '../../drill/cloud/kernel.ts';
import { Simulation } from '../../drill/simulation.ts';

function start(faults?: Faults): Promise<Simulation> {
  return Simulation.start({ assembly: inject('assembly'), database: 'lighthouse', seed: 1, ...(faults && { faults }) });
}

/** Kills the Lambda that makes the n-th call (from 0) of this operation. */
function killAt(operation: string, when: 'before' | 'after', nth: number): Faults & { readonly killed: () => boolean } {
  let count = 0;
  let killed = false;
  return {
    killed: () => killed,
    onCall: ({ service, operation: name, caller }) => {
      if (!caller.invocation || `${service}:${name}` !== operation || count++ !== nth) return undefined;
      killed = true;
      return { kill: when };
    },
  };
}

/** Every kind of call that a Lambda makes in a relocation, and how often in a plain one. */
const CALLS: readonly (readonly [operation: string, ...nth: number[]])[] = [
  ['states:StartSyncExecution', 0],
  ['states:StartExecution', 0],
  ['ec2:DescribeInstances', 0, 1, 3, 8],
  ['ec2:DescribeVolumes', 0, 5],
  ['ec2:DescribeLaunchTemplateVersions', 0],
  ['ec2:CreateFleet', 0],
  ['ssm:ListCommandInvocations', 0, 3],
  ['ssm:SendCommand', 0],
  ['ec2:DetachVolume', 0],
  ['ec2:AttachVolume', 0],
  ['ec2:AssignPrivateIpAddresses', 0],
  ['ec2:TerminateInstances', 0],
];

describe('a Lambda that is killed', () => {
  const cases = CALLS.flatMap(([operation, ...numbers]) =>
    numbers.flatMap((nth) => (['before', 'after'] as const).map((when) => [when, operation, nth] as const)),
  );

  it.each(cases)('%s %s (call %i) is followed by another, and nothing is done twice', async (when, operation, nth) => {
    const faults = killAt(operation, when, nth);
    const simulation = await start(faults);
    const source = simulation.holder;
    const before = simulation.local.ec2.machines().length;
    simulation.local.ec2.interrupt(source);
    await simulation.settle();
    // What an attempt launched that nobody waits for any longer is ended by reconcile at the latest.
    await simulation.pass(20 * 60);

    expect(faults.killed()).toBe(true);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.holder).not.toBe(source);
    expect(simulation.endings.at(-1)?.status).toBe('SUCCEEDED');
    expect(simulation.local.ec2.machines().length - before).toBeLessThanOrEqual(2);
    expect(simulation.ledger().gaps.length).toBeLessThanOrEqual(1);
  });
});

describe('a relocation that is stopped', () => {
  it.each([2, 10, 30, 36, 38, 40])('after %i s and redriven finishes, and nothing is done twice', async (seconds) => {
    const simulation = await start();
    const { local, clock } = simulation;
    const source = simulation.holder;
    local.ec2.interrupt(source);
    await simulation.pass(seconds);
    const execution = local.states.executions.findLast(({ machine }) => machine.name.endsWith('-relocate'));
    const input = { executionArn: execution?.arn };
    const call = (operation: string) =>
      clock.run(local.cloud.call({ service: 'states', operation, input, caller: local.iam.administrator }));
    await call('StopExecution');
    await simulation.pass(3);
    await call('RedriveExecution');
    await simulation.settle();
    await simulation.pass(20 * 60);

    expect(simulation.violations()).toEqual([]);
    expect(simulation.holder).not.toBe(source);
  });

  it.each([5, 20, 36, 39, 42])('after %i s for good is taken over by reconcile', async (seconds) => {
    const simulation = await start();
    const { local, clock } = simulation;
    const source = simulation.holder;
    local.ec2.interrupt(source);
    await simulation.pass(seconds);
    const executionArn = local.states.executions.findLast(({ machine }) => machine.name.endsWith('-relocate'))?.arn;
    await clock.run(
      local.cloud.call({
        service: 'states',
        operation: 'StopExecution',
        input: { executionArn },
        caller: local.iam.administrator,
      }),
    );
    await simulation.pass(5 * 60);
    await simulation.settle();
    await simulation.pass(20 * 60);
    expect(simulation.violations()).toEqual([]);
    expect(simulation.holder).not.toBe(source);
  });
});
