import { noticed } from './observation.ts';
import { requestScaleUp } from './request.ts';
import type { Scenario } from './scenario.ts';

const MORE_GIB = 10;

/** A person asks for nothing but a larger volume, and clients do not notice. */
export const growVolume: Scenario = {
  name: 'grow-volume',
  what: 'a person asks for a larger volume, which grows under the running database',
  beginning: 'the request',
  work: 'scale-up',
  workflow: 'scale-up',
  sabotages: [],
  outcome: 'The volume grew',
  async begin(scene) {
    const { stage, source } = scene;
    const { states } = stage.local;
    const known = states.executions.length;
    const sizes = await requestScaleUp(scene, { moreGiB: MORE_GIB });
    return async (end) => {
      const relocations = states.executions.slice(known).filter(({ machine }) => machine.name.endsWith('-relocate'));
      return [
        ...(await sizes(end)),
        ...relocations.map(({ name }) => `nothing had to move, and ${name} was started`),
        ...(end.holder === source ? [] : [`the database is on ${end.holder} and not on ${source}`]),
        ...noticed(end.gaps),
      ];
    };
  },
};
