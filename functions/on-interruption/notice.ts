/** What all of the events come down to. */
export interface Notice {
  readonly kind: 'interruption-warning' | 'rebalance-recommendation' | 'host-lost';
  readonly instanceId: string;
  /** When AWS gave the notice (the event's time, not its arrival), ISO 8601; absent when nothing is to end at a known time. */
  readonly noticedAt?: string;
}
