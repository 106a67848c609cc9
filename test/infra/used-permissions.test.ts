import { expect, inject, it } from 'vitest';
import { Simulation, type SimulationOptions } from '../../drill/simulation.ts';

/** What none of the stories below uses, and why it is needed all the same. */
const UNUSED: Readonly<Record<string, string>> = {
  'Hostlighthouse: ssm:GetParameter on parameter/keeper/lighthouse/password':
    'for a host whose predecessor died between storing the password of a new database and using it',
  'launch: iam:CreateServiceLinkedRole on role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot':
    'for the first Spot launch of an account; the local cloud has the role already',
};

/** The fewest stories that use all that Keeper may do. Each returns what was never used in it. */
const STORIES: readonly (() => Promise<string[]>)[] = [
  async function aReplacementThatDoesNotArm() {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['imagePullFails'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    return unused(simulation);
  },
  async function aReplacementThatHangsWithTheVolume() {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['hangsDuringTakeover'] : []) });
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    return unused(simulation);
  },
  async function theDeletionOfTheStackDuringARelocation() {
    const simulation = await start();
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.pass(10);
    // The role of the function that removes the hosts is gone itself when the stack is.
    let result: string[] | undefined;
    simulation.local.cloud.onHappening(({ kind }) => {
      if (kind === 'custom-resource') result = unused(simulation);
    });
    await simulation.clock.run(simulation.local.formation.destroy('Keeper'));
    if (!result) throw new Error('the custom resource was not deleted');
    return result;
  },
];

function start(options: Partial<SimulationOptions> = {}): Promise<Simulation> {
  return Simulation.start({ assembly: inject('assembly'), database: 'lighthouse', seed: 1, ...options });
}

function unused({ local }: Simulation): string[] {
  expect(local.cloud.denied).toEqual([]);
  return local.iam.unusedPermissions().map(({ role, action, resource }) => {
    const owner = /^Keeper-(.+)Role[0-9A-F]{8}$/.exec(role)?.[1] ?? role;
    return `${owner}: ${action} on ${resource.replaceAll(/arn:[^,]*:/g, '')}`;
  });
}

async function inTurn<T>(tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  for (const task of tasks) results.push(await task());
  return results;
}

it('every permission is used by some relocation or by the deletion of the stack', async () => {
  const [first = [], ...others] = await inTurn(STORIES);
  const never = first.filter((permission) => others.every((other) => other.includes(permission)));
  expect(never).toEqual(Object.keys(UNUSED));
}, 60_000);
