import { parseInstant } from './instant.ts';

/** A snapshot of the data volume. */
export interface RecoveryPoint {
  readonly id: string;
  /** `pending`, `completed`, `error` … */
  readonly state: string;
  /** The moment that it holds, in milliseconds since the epoch. */
  readonly takenAt: number;
  /** The census that was written right before it; absent where none was. */
  readonly census?: string;
  /** When a verification of it last succeeded (ISO 8601); absent when none has. */
  readonly provenAt?: string;
}

export interface PointRequest {
  readonly database: string;
  /** `latest`, `latest-proven`, a snapshot's id, or a moment (ISO 8601): the newest point at or before it. */
  readonly wanted: string;
  /** How old it may be at most, in hours; absent: as old as it is. */
  readonly freshHours?: number;
}

export type Resolution = { readonly point: RecoveryPoint } | { readonly refusal: string };

/**
 * Finds the recovery point that somebody means. Pure.
 *
 * @param points the snapshots of this database, of any state and in any order
 * @param now milliseconds since the epoch
 */
export function resolvePoint(points: readonly RecoveryPoint[], request: PointRequest, now: number): Resolution {
  const { database, wanted, freshHours } = request;
  const found = find(points, database, wanted);
  if ('refusal' in found || freshHours === undefined) return found;
  const hours = Math.floor((now - found.point.takenAt) / 3_600_000);
  return hours < freshHours
    ? found
    : {
        refusal: `the newest recovery point of ${database}, ${found.point.id}, is ${hours} hours old: no backup has completed since ${iso(found.point.takenAt)}; see the executions of keeper-backup`,
      };
}

function find(points: readonly RecoveryPoint[], database: string, wanted: string): Resolution {
  if (/^snap-[0-9a-f]{8,17}$/.test(wanted)) return findById(points, database, wanted);
  const complete = points.filter(({ state }) => state === 'completed').sort((a, b) => b.takenAt - a.takenAt);
  const [newest] = complete;
  if (!newest) {
    const [pending] = points.filter(({ state }) => state === 'pending');
    return {
      refusal: pending
        ? `${database} has no completed recovery point, and ${pending.id} is still pending; try again when it has completed`
        : `${database} has no recovery point; start keeper-backup`,
    };
  }
  if (wanted === 'latest') return { point: newest };
  if (wanted === 'latest-proven') {
    const point = complete.find(({ provenAt }) => provenAt !== undefined);
    return point
      ? { point }
      : { refusal: `no recovery point of ${database} is proven; write latest, or start keeper-verify-backup first` };
  }
  const moment = parseInstant(wanted);
  if (moment === undefined) {
    return {
      refusal: `recoveryPoint: ${JSON.stringify(wanted)} is no recovery point; write latest, latest-proven, a snapshot's id, or a moment like ${iso(newest.takenAt)}`,
    };
  }
  const point = complete.find(({ takenAt }) => takenAt <= moment);
  if (point) return { point };
  const oldest = complete.at(-1) ?? newest;
  return { refusal: `${database} has no recovery point as old as ${wanted}; the oldest is of ${iso(oldest.takenAt)}` };
}

function findById(points: readonly RecoveryPoint[], database: string, id: string): Resolution {
  const point = points.find((each) => each.id === id);
  if (!point)
    return { refusal: `${id} is no snapshot of ${database}; write one that is tagged keeper:database=${database}` };
  if (point.state === 'completed') return { point };
  return {
    refusal:
      point.state === 'pending'
        ? `${id} is still pending; try again when it has completed`
        : `${id} is in the state ${point.state} and holds nothing; write another one`,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
