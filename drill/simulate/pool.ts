import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { ScheduleResult, World } from './run.ts';

/**
 * A schedule makes much garbage and keeps little of it: with a large nursery most of it is never copied. Found by trying;
 * V8's own choice is 16 MiB.
 */
const NURSERY_MIB = 64;

/**
 * Plays the schedules of consecutive seeds on all processors.
 *
 * @param onResult called for each, in the order in which they end
 * @throws Error of the simulation itself
 */
export async function runSchedules(
  firstSeed: number,
  schedules: number,
  world: World,
  onResult: (result: ScheduleResult) => void,
): Promise<void> {
  let next = firstSeed;
  const end = firstSeed + schedules;
  const work = async (): Promise<void> => {
    const worker = new Worker(new URL('worker.ts', import.meta.url), {
      workerData: world,
      resourceLimits: { maxYoungGenerationSizeMb: NURSERY_MIB },
    });
    try {
      while (next < end) {
        worker.postMessage(next++);
        // Rejects with the worker's own error, should it have one.
        const [result] = await once(worker, 'message');
        onResult(result);
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), schedules) }, work));
}
