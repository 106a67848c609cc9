import { describe, expect, it } from 'vitest';
import { downtime } from '../../bench/downtime.ts';

describe('npm run bench -- downtime', () => {
  it('finds the database away for less time with Keeper than with anything else', async () => {
    const table = await downtime(1);
    const ratios = [...table.matchAll(/ ([\d.]+) ×$/gm)].map(([, ratio]) => Number(ratio));
    expect(ratios).toHaveLength(4);
    expect(Math.min(...ratios)).toBeGreaterThan(1);
    expect(table.split('\n').every((line) => line.length <= 120)).toBe(true);
  }, 60_000);
});
