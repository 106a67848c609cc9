import type { Happening } from './cloud/kernel.ts';
import type { CommandStep } from './cloud/ssm.ts';

/** A part of a relocation, in milliseconds since the epoch. */
export interface Part {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  /** AWS, the operating system or PostgreSQL takes it, whatever Keeper does. @see docs/adr/0008-what-counts-as-floor.md */
  readonly floor: boolean;
}

/** Steps of the scripts on hosts that nobody can do without. Their names stand in commands/*.sh. */
const FLOOR_STEPS = new Set(['stop-database', 'unmount', 'mount', 'start-database']);
/** The takeover waits most of its time; that is not a part of anything. */
const IDLE_STEPS = new Set(['wait-for-volume', 'report-armed']);

/** What a relocation consisted of, read from what happened in the local cloud. */
export function partsOf(happenings: readonly Happening[]): Part[] {
  return [
    ...workflowParts(happenings),
    ...releaseParts(happenings),
    ...volumeParts(happenings),
    ...hostParts(happenings),
  ].sort((a, b) => a.from - b.from || a.to - b.to);
}

/**
 * Milliseconds of the window that floor parts cover; where several overlap, the time counts once.
 *
 * @param window the downtime, in milliseconds since the epoch
 */
export function floorWithin(parts: readonly Part[], window: { readonly from: number; readonly to: number }): number {
  const clipped = parts
    .filter((part) => part.floor)
    .map(({ from, to }) => ({ from: Math.max(from, window.from), to: Math.min(to, window.to) }))
    .filter(({ from, to }) => to > from)
    .sort((a, b) => a.from - b.from);
  let covered = 0;
  let end = window.from;
  for (const { from, to } of clipped) {
    covered += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return covered;
}

/** States of the relocate machine by the names that a person sees in the console. */
const SHOWN_STATES = new Set([
  'Arm a replacement',
  'Checkpoint',
  'Move the volume',
  'Ask the host',
  'Verify',
  'Retire the source',
]);

function workflowParts(happenings: readonly Happening[]): Part[] {
  const entered = new Map<string, number>();
  const parts: Part[] = [];
  for (const { kind, subject, at, detail } of happenings) {
    const state = String(detail['state']);
    if (!SHOWN_STATES.has(state)) continue;
    const key = `${subject} ${state}`;
    if (kind === 'state-entered') entered.set(key, at);
    const from = entered.get(key);
    if (from === undefined || (kind !== 'state-exited' && kind !== 'state-failed')) continue;
    entered.delete(key);
    parts.push({ name: state, from, to: at, floor: false });
  }
  return parts;
}

function releaseParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  const last = new Map<string, { phase: string; at: number }>();
  const names: Readonly<Record<string, string>> = { delivered: 'deliver release', reported: 'report release' };
  for (const { kind, subject, at, detail } of happenings) {
    if (kind !== 'command' || !String(detail['document']).endsWith('-release')) continue;
    const phase = String(detail['phase']);
    const name = names[phase];
    const before = last.get(subject);
    if (name && before) parts.push({ name, from: before.at, to: at, floor: true });
    last.set(subject, { phase, at });
    if (phase === 'ended') parts.push(...stepParts(detail['steps']));
  }
  return parts;
}

function volumeParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  const begun = new Map<string, number>();
  for (const { kind, subject, at, detail } of happenings) {
    if (kind !== 'volume-attachment') continue;
    const state = String(detail['state']);
    if (state === 'attaching' || state === 'detaching') begun.set(subject, at);
    const from = begun.get(subject);
    if (from === undefined || (state !== 'attached' && state !== 'detached')) continue;
    begun.delete(subject);
    parts.push({ name: state === 'attached' ? 'attach' : 'detach', from, to: at, floor: true });
  }
  return parts;
}

function hostParts(happenings: readonly Happening[]): Part[] {
  return happenings.flatMap(({ kind, detail }) => (kind === 'takeover' ? stepParts(detail['steps']) : []));
}

function stepParts(steps: unknown): Part[] {
  if (!Array.isArray(steps)) return [];
  return (steps as CommandStep[])
    .filter(({ name }) => !IDLE_STEPS.has(name))
    .map(({ name, startedAtSeconds, seconds }) => ({
      name,
      from: startedAtSeconds * 1000,
      to: (startedAtSeconds + seconds) * 1000,
      floor: FLOOR_STEPS.has(name),
    }));
}
