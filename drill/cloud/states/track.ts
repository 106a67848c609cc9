import type { Flow } from './definition.ts';

/** A sequence of states was told to stop: by the execution's end, or because another branch failed. */
export class Stopped extends Error {
  override name = 'Stopped';
  readonly byBranch: boolean;
  constructor(byBranch: boolean) {
    super(byBranch ? 'another branch failed' : 'the execution ended');
    this.byBranch = byBranch;
  }
}

export interface MapItem {
  readonly Index: number;
  readonly Value: unknown;
  readonly Source: 'STATE_DATA';
}

/** The visit of one state, from its entry to its exit. */
export interface Visit {
  readonly eventId: number;
  readonly enteredTime: string;
  retries: number;
}

/**
 * How far one sequence of states has got: the machine's own, or that of a branch or iteration. It holds all that a
 * redrive needs, so that the work of an execution is never lost.
 */
export class Track {
  readonly flow: Flow;
  readonly outer: Track | undefined;
  readonly item: MapItem | undefined;
  readonly own: Record<string, unknown> = {};
  state: string;
  input: unknown;
  lastEventId: number;
  visit: Visit | undefined;
  /** Of the Parallel or Map state that is being visited. */
  branches: Track[] | undefined;
  output: { readonly value: unknown } | undefined;

  constructor(flow: Flow, input: unknown, outer?: Track, item?: MapItem) {
    this.flow = flow;
    this.outer = outer;
    this.item = item;
    this.state = flow.StartAt;
    this.input = input;
    this.lastEventId = outer?.lastEventId ?? 0;
  }

  get variables(): Record<string, unknown> {
    return { ...this.outer?.variables, ...this.own };
  }

  get mapItem(): MapItem | undefined {
    return this.item ?? this.outer?.mapItem;
  }
}
