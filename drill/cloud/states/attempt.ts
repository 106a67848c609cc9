import type { Clock, Timer } from '../clock.ts';
import { heartbeatTimeout, StateFailure } from './failures.ts';

/** A task that waits for its token to come back. */
export interface OpenTask {
  succeed(output: unknown): void;
  fail(error: string | undefined, cause: string | undefined): void;
  heartbeat(): void;
}

/** One attempt at a task. */
export interface Attempt {
  /** Makes the call. Its answer ends the attempt, or, of a task with a token, begins the wait for the token. */
  call(): Promise<unknown>;
  readonly waitForTaskToken: boolean;
  readonly timeoutSeconds: number | undefined;
  readonly heartbeatSeconds: number | undefined;
  /** Told at once through what the token's holder can end the attempt. */
  opened(task: OpenTask): void;
  /** Told the answer of the call after which the token is waited for. */
  submitted(answer: unknown): void;
}

/**
 * What comes first decides: the answer, the token, the timeout, a missed heartbeat, or a stop. Whatever comes later is
 * without effect, as the work that was begun cannot be recalled.
 * @throws StateFailure; the signal's reason
 */
export function firstOutcome(clock: Clock, signal: AbortSignal, attempt: Attempt): Promise<unknown> {
  const { timeoutSeconds, heartbeatSeconds } = attempt;
  return new Promise((resolve, reject) => {
    let open = true;
    let submitted = false;
    let timeout: Timer | undefined;
    let heartbeat: Timer | undefined;
    const close = (act: () => void) => {
      if (!open) return;
      open = false;
      timeout?.cancel();
      heartbeat?.cancel();
      signal.removeEventListener('abort', stop);
      act();
    };
    const stop = () => close(() => reject(signal.reason));
    const fail = (failure: unknown) => close(() => reject(failure));
    const beat = () => {
      // Heartbeats are due from the moment the call has been answered.
      if (heartbeatSeconds === undefined || !submitted || !open) return;
      heartbeat?.cancel();
      heartbeat = clock.after(heartbeatSeconds * 1000, () => fail(heartbeatTimeout()));
    };
    const answered = (answer: unknown) => {
      if (!attempt.waitForTaskToken) return close(() => resolve(answer));
      if (!open) return;
      submitted = true;
      attempt.submitted(answer);
      beat();
    };

    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop);
    if (timeoutSeconds !== undefined) {
      timeout = clock.after(timeoutSeconds * 1000, () => fail(new StateFailure('States.Timeout')));
    }
    attempt.opened({
      succeed: (output) => close(() => resolve(output)),
      fail: (error, cause) => fail(new StateFailure(error, cause)),
      heartbeat: beat,
    });
    // An error of `submitted` (a full history) ends the attempt like one of the call.
    attempt.call().then(answered).catch(fail);
  });
}
