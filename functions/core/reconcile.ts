import { type DatabaseState, holderOf, isAlive, servingHost } from './state.ts';

export interface Reconciliation {
  readonly action: 'relocate' | 'none';
  readonly reason: string;
}

/**
 * Compares a database as it is with what should be. Pure.
 *
 * @param relocating whether a relocation of this database is running: then that one looks after it
 */
export function reconcile(state: DatabaseState, relocating: boolean): Reconciliation {
  const serving = servingHost(state);
  if (serving) return { action: 'none', reason: `${serving.id} serves` };
  if (relocating) return { action: 'none', reason: 'a relocation is running' };
  const holder = holderOf(state);
  if (holder && isAlive(holder))
    return { action: 'relocate', reason: `${holder.id} holds the volume and does not serve` };
  return { action: 'relocate', reason: 'no host serves' };
}
