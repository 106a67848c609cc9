import type { Scenario } from './scenario.ts';

const NOTICE_SECONDS = 120;

/** AWS takes the Spot host of the database. */
export const spotInterruption: Scenario = {
  name: 'spot-interruption',
  what: 'AWS takes the Spot host, two minutes after its notice',
  beginning: 'the notice',
  work: 'relocation',
  workflow: 'relocate',
  noticeSeconds: NOTICE_SECONDS,
  sabotages: ['kill-postgres', 'full-disk', 'hanging-unmount', 'corrupt-takeover'],
  outcome: 'The database moved',
  begin({ stage, source }) {
    stage.local.ec2.interrupt(source, { noticeSeconds: NOTICE_SECONDS });
    return async ({ holder }) =>
      holder === source ? [`the relocation succeeded, and the database is still on ${source}`] : [];
  },
};
