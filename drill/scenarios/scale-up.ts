import type { Stage } from '../stage.ts';
import { requestScaleUp } from './request.ts';
import type { Scenario, Scene } from './scenario.ts';

const WANTED_TYPE = 't4g.medium';
/** Where the database is on that one already. */
const OTHER_TYPE = 't4g.large';
const MORE_GIB = 10;

const REQUEST = {
  name: 'scale-up',
  what: 'a person asks for a larger instance and a larger volume',
  beginning: 'the request',
  work: 'scale-up',
  workflow: 'scale-up',
  sabotages: ['kill-postgres', 'hanging-unmount', 'corrupt-takeover', 'new-host-fails'],
} as const;

/** PostgreSQL does not start on the new host: the database has to go back to where it was, and the runbook to say so. */
const wayBack: Scenario = {
  ...REQUEST,
  end: 'FAILED',
  takeoversFail: true,
  longestMoveSeconds: 180,
  outcome: 'The move went back',
  async begin(scene) {
    const { source } = scene;
    const sizes = await requestScaleUp(scene, { instanceType: typeFor(scene), moreGiB: MORE_GIB });
    return async (end) => [
      ...(await sizes(end)),
      ...(end.holder === source ? [] : [`the database is on ${end.holder} and not back on ${source}`]),
    ];
  },
};

/** A person starts the runbook "Scale Up Database" for another instance type and a larger volume. */
export const scaleUp: Scenario = {
  ...REQUEST,
  spoiled: { 'new-host-fails': wayBack },
  outcome: 'Scaled up',
  async begin(scene) {
    const instanceType = typeFor(scene);
    const sizes = await requestScaleUp(scene, { instanceType, moreGiB: MORE_GIB });
    return async (end) => [...(await sizes(end)), ...(await misfits(scene.stage, end.holder, instanceType))];
  },
};

function typeFor({ stage, source }: Scene): string {
  return typeOf(stage, source) === WANTED_TYPE ? OTHER_TYPE : WANTED_TYPE;
}

function typeOf({ local }: Stage, instanceId: string): string | undefined {
  return local.ec2.machine(instanceId)?.identity.instanceType;
}

/** How the host differs from what was asked for, and PostgreSQL's settings from what the host has. */
async function misfits(stage: Stage, holder: string, wanted: string): Promise<string[]> {
  const type = typeOf(stage, holder);
  if (type !== wanted) return [`the database is on a ${type} and not on a ${wanted}`];
  const { memoryMiB, sharedBuffersMiB } = await stage.inspect(holder);
  if (memoryMiB === undefined || sharedBuffersMiB === undefined) return [];
  const quarter = Math.floor(memoryMiB / 4);
  return sharedBuffersMiB === quarter
    ? []
    : [
        `PostgreSQL has ${sharedBuffersMiB} MiB of shared buffers and not ${quarter}, a quarter of the ${wanted}'s memory`,
      ];
}
