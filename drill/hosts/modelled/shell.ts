import type { Cloud } from '../../cloud/kernel.ts';

/** The script that was running is no more: killed at its timeout, or its machine ended. */
export class ShellEnded extends Error {}

/** The script ends itself with this exit code. */
export class ScriptFailed extends Error {
  readonly exitCode: number;
  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export interface Step {
  readonly name: string;
  readonly startedAtSeconds: number;
  readonly seconds: number;
}

/** One run of a script: its clock stops when it is killed or its machine ends. */
export class Shell {
  readonly #cloud: Cloud;
  readonly #machineRuns: () => boolean;
  readonly stdout: string[] = [];
  readonly stderr: string[] = [];
  readonly steps: Step[] = [];
  #killed = false;
  #stepBegan: number;

  constructor(cloud: Cloud, machineRuns: () => boolean) {
    this.#cloud = cloud;
    this.#machineRuns = machineRuns;
    this.#stepBegan = cloud.clock.now();
  }

  kill(): void {
    this.#killed = true;
  }

  async pause(ms: number): Promise<void> {
    await this.waitFor(this.#cloud.clock.sleep(ms));
  }

  /** @throws ShellEnded when the script or its machine ended meanwhile */
  async waitFor<T>(work: Promise<T>): Promise<T> {
    await Promise.allSettled([work]);
    if (this.#killed || !this.#machineRuns()) throw new ShellEnded();
    return work;
  }

  /** The next step begins now. */
  begin(): void {
    this.#stepBegan = this.#cloud.clock.now();
  }

  /** Prints what has passed since the previous step ended, as the scripts do. */
  step(name: string): void {
    const now = this.#cloud.clock.now();
    const step = { name, startedAtSeconds: this.#stepBegan / 1000, seconds: (now - this.#stepBegan) / 1000 };
    this.#stepBegan = now;
    this.steps.push(step);
    this.stdout.push(`keeper-step ${name} ${step.startedAtSeconds.toFixed(3)} ${step.seconds.toFixed(3)}`);
  }
}
