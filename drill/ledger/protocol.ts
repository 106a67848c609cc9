/** What the ledger's client is told, as JSON in its first argument. The password travels in PGPASSWORD. */
export interface ClientOptions {
  readonly address: string;
  readonly ratePerSecond: number;
  readonly connections: number;
}

/** A line of JSON on the client's stdout. */
export type ClientMessage =
  | {
      readonly kind: 'progress';
      /**
       * Rows whose commit the server has acknowledged since the last message: number, and when it was sent
       * and acknowledged (ms since the epoch).
       */
      readonly acknowledged: readonly (readonly [number: number, sentAt: number, acknowledgedAt: number])[];
      /** Rows that were sent and never answered: they may or may not be there, and are never sent again. */
      readonly unanswered: readonly number[];
    }
  | { readonly kind: 'table'; readonly numbers: readonly number[] };
