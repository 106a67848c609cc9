import { defineConfig } from './infra/config.ts';

/** Everything that you decide. `npx cdk synth` checks it and says what to write instead. */
export default defineConfig({
  /** Where people are told what happened. Each address gets a mail from AWS to confirm. */
  notify: [],
  databases: {
    lighthouse: {
      zone: 'us-east-1a',
      address: '10.77.0.16',
      volumeGiB: 20,
      /** Spot takes whichever of these is least likely to be interrupted; on demand, the first that can be had. */
      instanceTypes: [
        't4g.small',
        't4g.medium',
        'c7g.medium',
        'c6g.medium',
        'm7g.medium',
        'm6g.medium',
        'r7g.medium',
        'r6g.medium',
      ],
      /** Append the digest (`@sha256:…`) so that every host runs exactly the same bytes. */
      image: 'timescale/timescaledb:2.19.3-pg16',
    },
  },
});
