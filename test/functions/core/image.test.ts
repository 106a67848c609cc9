import { describe, expect, it } from 'vitest';
import { imageProblem, postgresMajor, timescaleVersion, whyPatchFirst } from '../../../functions/core/image.ts';

describe('the name of an image', () => {
  it.each([
    'timescale/timescaledb:2.19.3-pg16',
    'timescale/timescaledb-ha:pg16.4-ts2.15.3',
    'postgres:16.4',
    `postgres:16.4@sha256:${'0'.repeat(64)}`,
    'public.ecr.aws/docker/library/postgres:17',
  ])('%s will do', (image) => {
    expect(imageProblem(image)).toBeUndefined();
  });

  it.each([
    ['postgres', '"postgres" has no tag or is no image name; write for example timescale/timescaledb:2.19.3-pg16'],
    ["x:1'", `"x:1'" has no tag or is no image name; write for example timescale/timescaledb:2.19.3-pg16`],
    [
      'postgres:latest',
      'latest may be another PostgreSQL on the next host; write for example timescale/timescaledb:2.19.3-pg16',
    ],
    [
      'postgres:18.1',
      'the images of PostgreSQL 18 and later keep their data elsewhere, which Keeper does not know yet; write for example timescale/timescaledb:2.19.3-pg16',
    ],
    [
      'timescale/timescaledb:2.30.0-pg20',
      'the images of PostgreSQL 18 and later keep their data elsewhere, which Keeper does not know yet; write for example timescale/timescaledb:2.19.3-pg16',
    ],
  ])('%s will not', (image, problem) => {
    expect(imageProblem(image)).toBe(problem);
  });

  it.each([
    ['timescale/timescaledb:2.19.3-pg16', 16, [2, 19, 3]],
    ['timescale/timescaledb-ha:pg16.4-ts2.15.3-all', 16, [2, 15, 3]],
    ['postgres:16.4', 16, undefined],
    ['docker.io/library/postgres:17-alpine', 17, undefined],
    ['bitnami/postgresql:16.4.0', 16, undefined],
    ['our/database:7', undefined, undefined],
    ['timescale/timescaledb:2.19-pg15-oss', 15, [2, 19]],
  ])('%s tells the versions', (image, postgres, timescale) => {
    expect([postgresMajor(image), timescaleVersion(image)]).toEqual([postgres, timescale]);
  });
});

describe('a host and the image that its successor would start', () => {
  const [older, newer] = ['timescale/timescaledb:2.19.3-pg16', 'timescale/timescaledb:2.20.0-pg16'];

  it('call for a patch when they differ', () => {
    expect(whyPatchFirst('lighthouse', newer, { image: older })).toBe(
      `lighthouse runs ${older}, and ${newer} is what its next host would start; start keeper-patch first, which takes a snapshot and goes back when it does not serve`,
    );
  });

  it.each([{ image: older }, {}])('call for none when the host says %j', (host) => {
    expect(whyPatchFirst('lighthouse', older, host)).toBeUndefined();
  });
});
