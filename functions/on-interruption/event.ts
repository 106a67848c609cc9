import { MalformedInput } from '../core/errors.ts';

/** The part of an EventBridge event that every decoder needs. */
export interface EventEnvelope {
  readonly source: string;
  readonly 'detail-type': string;
  readonly time?: unknown;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** @throws MalformedInput when it is not an EventBridge event */
export function decodeEnvelope(event: unknown): EventEnvelope {
  const candidate = event as Partial<EventEnvelope> | null | undefined;
  if (
    typeof candidate !== 'object' ||
    candidate === null ||
    typeof candidate.source !== 'string' ||
    typeof candidate['detail-type'] !== 'string' ||
    typeof candidate.detail !== 'object' ||
    candidate.detail === null
  ) {
    throw new MalformedInput('this is not an EventBridge event: source, detail-type and detail are needed');
  }
  return candidate as EventEnvelope;
}

/** @throws MalformedInput */
export function instanceIdOf(event: EventEnvelope): string {
  const id = event.detail['instance-id'];
  if (typeof id !== 'string' || !/^i-[0-9a-f]{8,17}$/.test(id)) {
    throw new MalformedInput(`${event['detail-type']}: detail.instance-id is ${JSON.stringify(id)}`);
  }
  return id;
}

/** @throws MalformedInput */
export function timeOf(event: EventEnvelope): string {
  const time = typeof event.time === 'string' ? Date.parse(event.time) : Number.NaN;
  if (Number.isNaN(time)) throw new MalformedInput(`${event['detail-type']}: time is ${JSON.stringify(event.time)}`);
  return new Date(time).toISOString();
}
