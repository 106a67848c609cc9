import { parentPort, workerData } from 'node:worker_threads';
import { runSchedule, type World } from './run.ts';

// Plays the schedule of every seed that it is sent, one after another. @see ./pool.ts
const world = workerData as World;
parentPort?.on('message', async (seed: number) => {
  parentPort?.postMessage(await runSchedule(seed, world));
});
