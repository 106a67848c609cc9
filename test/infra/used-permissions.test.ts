import { expect, it } from 'vitest';
import { AwsError } from '../../drill/cloud/kernel.ts';
import type { Simulation } from '../../drill/simulation.ts';
import { DATABASE_TAG, EXPIRES_AT_TAG, PRE_CHANGE_ROLE, ROLE_TAG, SUPERSEDED_ROLE } from '../../functions/core/tags.ts';
import { start, untilHour } from '../relocate/play.ts';

/** What none of the stories below uses, and why it is needed all the same. */
const UNUSED: Readonly<Record<string, string>> = {
  'Hostlighthouse: ssm:GetParameter on parameter/keeper/lighthouse/password':
    'for a host whose predecessor died between storing the password of a new database and using it',
  'launch: iam:CreateServiceLinkedRole on role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot, role/aws-service-role/ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet':
    'for the first launches of an account; the local cloud has the roles already',
  'prove: iam:CreateServiceLinkedRole on role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot, role/aws-service-role/ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet':
    'for the first launches of an account; the local cloud has the roles already',
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
    const before = unused(simulation).filter((permission) => !permission.startsWith('removehosts'));
    // Roles go with the stack; that of the function that removes the hosts goes last.
    let atEnd: string[] | undefined;
    simulation.local.cloud.onHappening(({ kind }) => {
      if (kind === 'custom-resource') atEnd = unused(simulation);
    });
    await simulation.clock.run(simulation.local.formation.destroy('Keeper'));
    if (!atEnd) throw new Error('the custom resource was not deleted');
    return [...before, ...atEnd.filter((permission) => permission.startsWith('removehosts'))];
  },
  async function aLargerHostWithALargerVolume() {
    const simulation = await start();
    simulation.startWorkflow('scale-up', { instanceType: 't4g.medium', volumeGiB: 30 });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
    return unused(simulation);
  },
  async function aNewerImageWhoseExtensionIsUpdated() {
    const simulation = await start();
    simulation.startWorkflow('patch', { image: 'timescale/timescaledb:2.20.0-pg16', updateExtension: true });
    await simulation.settle();
    expect(simulation.runbooks).toMatchObject([{ status: 'SUCCEEDED' }]);
    return unused(simulation);
  },
  async function aRelocationThatAPersonStops() {
    const simulation = await start();
    const { local } = simulation;
    local.ec2.interrupt(simulation.holder, { noticeSeconds: 86_400, rebalanceSecondsBefore: 86_400 });
    await simulation.pass(20);
    const executionArn = local.states.executions.at(-1)?.arn;
    simulation.asPerson('states', 'StopExecution', { executionArn });
    // Its replacement is nobody's any more, and the warning finds the name of its execution taken.
    await simulation.pass(16 * 60);
    local.ec2.interrupt(simulation.holder);
    await simulation.settle();
    return unused(simulation);
  },
  async function eventsAndTicksThatCannotBeWorkedOff() {
    const unreadable = new AwsError('InternalServerError', 'An error occurred on the server side.', 500);
    const isRead = (operation: string, name: unknown) =>
      operation === 'GetParameter' && `${name}`.endsWith('/volume-id');
    const simulation = await start({
      faults: {
        onCall: ({ operation, input }) => (isRead(operation, input.Name) ? { error: unreadable } : undefined),
      },
    });
    const { cloud } = simulation.local;
    const detail = { 'instance-id': 'none', 'instance-action': 'terminate' };
    const time = new Date(simulation.clock.now()).toISOString();
    const envelope = { version: '0', id: '0', account: cloud.account, region: cloud.region, resources: [], time };
    cloud.emit({ ...envelope, source: 'aws.ec2', 'detail-type': 'EC2 Spot Instance Interruption Warning', detail });
    await simulation.pass(10 * 60);
    return unused(simulation);
  },
  async function aBackupWhoseFirstScratchHostCannotVerifyItAndThatIsDamagedLater() {
    const simulation = await start({ hostFaults: (number) => (number === 0 ? ['cannotVerify'] : []) });
    simulation.startWorkflow('backup', {});
    await simulation.settle();
    simulation.local.hosts.damage(simulation.local.ec2.snapshots()[0]?.snapshotId ?? '', 'random bytes');
    simulation.startWorkflow('verify-backup', {});
    await simulation.settle();
    // And another one, whose snapshot fails.
    simulation.startWorkflow('backup', {});
    while (simulation.local.ec2.snapshots().length < 2) await simulation.pass(1);
    simulation.local.ec2.failSnapshot(simulation.local.ec2.snapshots().at(-1)?.snapshotId ?? '');
    await simulation.settle();
    return unused(simulation);
  },
  async function aNightAfterWhichNothingIsKeptAnyLonger() {
    const simulation = await start();
    const expired = [{ Key: EXPIRES_AT_TAG, Value: '2026-01-01T00:00:00.000Z' }];
    const tags = (ResourceType: string, role: string) => [
      {
        ResourceType,
        Tags: [{ Key: DATABASE_TAG, Value: 'lighthouse' }, { Key: ROLE_TAG, Value: role }, ...expired],
      },
    ];
    const VolumeId = simulation.watch.liveVolume()?.volumeId;
    simulation.asPerson('ec2', 'CreateSnapshot', { VolumeId, TagSpecifications: tags('snapshot', PRE_CHANGE_ROLE) });
    simulation.asPerson('ec2', 'CreateVolume', {
      AvailabilityZone: 'us-east-1a',
      Size: 1,
      VolumeType: 'gp3',
      TagSpecifications: tags('volume', SUPERSEDED_ROLE),
    });
    await simulation.pass(120);
    expect(simulation.watch.orphans()).toEqual([]);
    for (const hour of [2, 3]) {
      await untilHour(simulation, hour);
      await simulation.pass(120);
    }
    return unused(simulation);
  },
];

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

it('every permission is used in some story', async () => {
  const [first = [], ...others] = await inTurn(STORIES);
  const never = first.filter((permission) => others.every((other) => other.includes(permission)));
  expect(never.sort()).toEqual(Object.keys(UNUSED).sort());
}, 60_000);
