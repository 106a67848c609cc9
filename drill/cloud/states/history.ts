/** One event of an execution's history, shaped as `GetExecutionHistory` answers it. */
export interface HistoryEvent {
  readonly id: number;
  readonly previousEventId: number;
  readonly timestamp: Date;
  readonly type: string;
  readonly [details: string]: unknown;
}

/** @see step-functions/latest/dg/service-quotas.html, "Maximum execution history size" */
export const HISTORY_LIMIT = 25_000;

/** @see the same page, "Maximum input or output size for a task, state, or execution" */
export const PAYLOAD_LIMIT = 262_144;

/** Whether a value's JSON is larger than Step Functions passes on. */
export function exceedsPayloadLimit(value: unknown): boolean {
  const json = JSON.stringify(value);
  // No character takes more than three bytes of UTF-8 per code unit: short texts need no encoding to know.
  return json.length * 3 > PAYLOAD_LIMIT && Buffer.byteLength(json) > PAYLOAD_LIMIT;
}
