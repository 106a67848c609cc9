/** What an error name of the Amazon States Language can be caught or retried as, besides itself. */
const WILDCARDS = { all: 'States.ALL', taskFailed: 'States.TaskFailed' } as const;

/** Neither wildcard matches these. @see step-functions/latest/dg/concepts-error-handling.html, "Error names" */
const TERMINAL: readonly string[] = ['States.DataLimitExceeded', 'States.Runtime'];

/** An error as the Amazon States Language knows it: a name to match on, and a cause for people. */
export class StateFailure extends Error {
  override name = 'StateFailure';
  readonly error: string | undefined;
  override readonly cause: string | undefined;
  /** Further names under which `ErrorEquals` finds it. */
  readonly aliases: readonly string[];

  constructor(error: string | undefined, cause?: string, aliases: readonly string[] = []) {
    super(`${error ?? 'failure'}: ${cause ?? ''}`);
    this.error = error;
    this.cause = cause;
    this.aliases = aliases;
  }

  /** The object that a Catch sees as `$states.errorOutput`. */
  get output(): { Error?: string; Cause?: string } {
    return {
      ...(this.error === undefined ? {} : { Error: this.error }),
      ...(this.cause === undefined ? {} : { Cause: this.cause }),
    };
  }
}

/**
 * A missed heartbeat: AWS reports it as `States.Timeout`, and lets Retry and Catch name it `States.HeartbeatTimeout`
 * as well.
 */
export function heartbeatTimeout(): StateFailure {
  return new StateFailure('States.Timeout', undefined, ['States.HeartbeatTimeout']);
}

/** Whether an `ErrorEquals` names this failure. */
export function matches(errorEquals: readonly string[], failure: StateFailure): boolean {
  const names = [failure.error ?? '', ...failure.aliases];
  if (failure.error === 'States.Runtime') return false;
  if (names.some((name) => errorEquals.includes(name))) return true;
  if (TERMINAL.includes(failure.error ?? '')) return false;
  if (errorEquals.includes(WILDCARDS.all)) return true;
  return errorEquals.includes(WILDCARDS.taskFailed) && failure.error !== 'States.Timeout';
}
