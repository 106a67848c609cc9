import type { Observed, ReleaseState } from '../../../functions/core/decide.ts';
import type { DatabaseState, HostState, VolumeState } from '../../../functions/core/state.ts';

/** The moment at which decisions are made in these tests. */
export const NOW = Date.parse('2026-01-05T12:00:00Z');
export const EXECUTION = 'lighthouse-i-0000000000000source';
export const SOURCE = 'i-0000000000000source';
export const TARGET = 'i-0000000000000target';

export function host(id: string, overrides: Partial<HostState> = {}): HostState {
  return {
    id,
    state: 'running',
    lifecycle: 'spot',
    instanceType: 't4g.small',
    imageId: 'ami-0000000000000000a',
    launchedAt: NOW - 60_000,
    verified: false,
    hasAddress: false,
    interfaceId: `eni-${id}`,
    ...overrides,
  };
}

export function source(overrides: Partial<HostState> = {}): HostState {
  return host(SOURCE, { hasAddress: true, verified: true, launchedAt: NOW - 86_400_000, ...overrides });
}

export function target(overrides: Partial<HostState> = {}): HostState {
  return host(TARGET, { execution: EXECUTION, ...overrides });
}

export function volume(attachment?: VolumeState['attachment'], overrides: Partial<VolumeState> = {}): VolumeState {
  return {
    id: 'vol-1',
    state: attachment ? 'in-use' : 'available',
    sizeGiB: 20,
    blank: false,
    ...(attachment && { attachment }),
    ...overrides,
  };
}

export function attachedTo(
  hostId: string,
  state: NonNullable<VolumeState['attachment']>['state'] = 'attached',
): VolumeState {
  return volume({ hostId, state });
}

export function release(status: ReleaseState['status'], overrides: Partial<ReleaseState> = {}): ReleaseState {
  return { status, sentAt: NOW - 1_000, detail: 'what the command said', ...overrides };
}

/** The source serves, the target is armed. */
export function observed(overrides: Partial<Observed> = {}): Observed {
  return { volume: attachedTo(SOURCE), hosts: [source(), target()], asked: {}, ...overrides };
}

export function databaseState(overrides: Partial<DatabaseState> = {}): DatabaseState {
  return { volume: attachedTo(SOURCE), hosts: [source()], ...overrides };
}
