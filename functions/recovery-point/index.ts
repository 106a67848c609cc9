import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { EC2Client, paginateDescribeSnapshots } from '@aws-sdk/client-ec2';
import middy from '@middy/core';
import { Refused } from '../core/errors.ts';
import { type RecoveryPoint, resolvePoint } from '../core/recovery-point.ts';
import { CENSUS_TAG, DATABASE_TAG, PROVEN_AT_TAG } from '../core/tags.ts';
import { logger } from '../shared/logger.ts';
import { tag } from '../shared/tag.ts';

/** @see workflows/verify-backup.ts, state "Find the recovery point" */
export interface RecoveryPointInput {
  readonly database: string;
  readonly recoveryPoint: string;
  /** How old it may be at most; 0: as old as it is. */
  readonly freshHours: number;
}

export interface FoundPoint {
  readonly id: string;
  /** ISO 8601 */
  readonly takenAt: string;
  /** Empty when none was written before it. */
  readonly census: string;
}

const ec2 = new EC2Client({});

/**
 * Which snapshot somebody means.
 *
 * @throws Refused with what to write instead
 */
export const handler = middy(async (input: RecoveryPointInput): Promise<FoundPoint> => {
  const { database, recoveryPoint, freshHours } = input;
  const result = resolvePoint(
    await readPoints(database),
    { database, wanted: recoveryPoint, ...(freshHours > 0 && { freshHours }) },
    Date.now(),
  );
  logger.info('recovery point', { ...input, ...result });
  if ('refusal' in result) throw new Refused(result.refusal);
  const { id, takenAt, census = '' } = result.point;
  return { id, takenAt: new Date(takenAt).toISOString(), census };
}).use(injectLambdaContext(logger));

async function readPoints(database: string): Promise<RecoveryPoint[]> {
  const points: RecoveryPoint[] = [];
  const pages = paginateDescribeSnapshots(
    { client: ec2 },
    { OwnerIds: ['self'], Filters: [{ Name: `tag:${DATABASE_TAG}`, Values: [database] }] },
  );
  for await (const { Snapshots = [] } of pages) {
    for (const { SnapshotId = '', State = 'unknown', StartTime, Tags } of Snapshots) {
      const census = tag(Tags, CENSUS_TAG);
      const provenAt = tag(Tags, PROVEN_AT_TAG);
      points.push({
        id: SnapshotId,
        state: State,
        takenAt: StartTime?.getTime() ?? 0,
        ...(census !== undefined && { census }),
        ...(provenAt !== undefined && { provenAt }),
      });
    }
  }
  return points;
}
