import type { Happening } from '../cloud/kernel.ts';
import type { Schedule } from './schedule.ts';

/** What a schedule is going to do, one line each. */
export function planLines({ seed, faults, calmAfter }: Schedule): string[] {
  return [
    `seed ${seed}: ${faults.length} faults, calm after ${calmAfter} s`,
    ...faults.map(({ kind, ...detail }) => `  ${kind} ${JSON.stringify(detail).replaceAll('"', '')}`),
  ];
}

/** Tells a schedule's story line by line; what is the same several times in a row is told once. */
export class Story {
  readonly #beganAt: number;
  readonly #write: (line: string) => void;
  #last = '';
  #repeated = 0;

  /** @param beganAt milliseconds since the epoch */
  constructor(beganAt: number, write: (line: string) => void) {
    this.#beganAt = beganAt;
    this.#write = write;
  }

  add(happening: Happening): void {
    const text = tell(happening);
    if (text === undefined) return;
    if (text === this.#last) {
      this.#repeated++;
      return;
    }
    if (this.#repeated > 0) this.#write(`${' '.repeat(12)}(${this.#repeated} times more)`);
    this.#write(`${((happening.at - this.#beganAt) / 1000).toFixed(1).padStart(8)} s  ${text}`);
    this.#last = text;
    this.#repeated = 0;
  }
}

/** One line, or nothing for what does not move the story on. */
function tell({ kind, subject, detail }: Happening): string | undefined {
  const text = (name: string) => String(detail[name] ?? '');
  switch (kind) {
    case 'fault':
      return `FAULT    ${subject}${detail['subject'] ? `: ${text('subject')}` : ''}`;
    case 'event':
      return text('rules') && subject !== 'Scheduled Event'
        ? `event    ${subject}: ${JSON.stringify(detail['detail']).slice(0, 120)}`
        : undefined;
    case 'spot-rebalance':
      return `AWS      recommends to leave ${subject}`;
    case 'spot-notice':
      return `AWS      gives notice of ${subject}: ${text('noticeSeconds')} s`;
    case 'execution':
      return `workflow ${subject} ${text('status')}${outcome(detail)}`;
    case 'state-entered':
      return `state    ${subject}: ${text('state')}`;
    case 'state-failed':
      return `state    ${subject}: ${text('state')} failed (${text('handling')}): ${text('error')}: ${text('cause').slice(0, 200)}`;
    case 'log':
      return decision(text('line'));
    case 'lambda':
      return detail['event'] === 'failed'
        ? `lambda   ${subject} failed: ${text('errorType')}: ${text('errorMessage').slice(0, 200)}`
        : undefined;
    case 'instance-state':
      return `instance ${subject} ${text('state')}${detail['reason'] ? ` (${text('reason')})` : ''}`;
    case 'volume-attachment':
      return `volume   ${subject} ${text('state')} ${text('state').startsWith('attach') ? 'to' : 'from'} ${text('instanceId')}`;
    case 'volume-deleted':
      return `volume   ${subject} deleted`;
    case 'address':
      return `address  ${subject} ${text('state')} ${detail['state'] === 'unassigned' ? 'from' : 'to'} ${text('instanceId')}`;
    case 'postgres':
      return `postgres on ${subject} ${text('state')}`;
    case 'takeover':
      return `takeover on ${subject} ${detail['failure'] ? `failed: ${text('failure')}` : 'done'}`;
    case 'agent-online':
      return `agent    of ${subject} online`;
    case 'command':
      return `command  ${text('document').replace(/^.*-/, '')} on ${text('instanceId')} ${text('phase')}, ${text('status')}${detail['exitCode'] === undefined ? '' : `, exit code ${text('exitCode')}`}`;
    case 'published':
      return `people   are told: ${text('subject')}`;
    case 'denied':
      return `DENIED   ${subject} on ${text('resource')} for ${text('role')}`;
    case 'broken-promise':
      return `BROKEN   ${subject}: ${text('what')}`;
    case 'undelivered':
      return `UNDELIVERED to ${subject}: ${text('reason')}`;
    default:
      return undefined;
  }
}

function outcome({ output, error, cause }: Happening['detail']): string {
  if (error) return `: ${error}: ${String(cause).slice(0, 200)}`;
  return output ? `: ${String(output).slice(0, 200)}` : '';
}

/** A function's own line: what it decided, and why. */
function decision(line: string): string | undefined {
  let said: Record<string, unknown>;
  try {
    said = JSON.parse(line);
  } catch {
    return `log      ${line.slice(0, 200)}`;
  }
  const { message, execution, action, next, reason, ...rest } = said;
  if (message === 'reconcile' && action === 'none') return undefined;
  const of = rest['function_name'] ? String(rest['function_name']).replace(/^Keeper-|Function.*$/g, '') : '';
  const other = [
    'host',
    'hosts',
    'retired',
    'error',
    'detail',
    'attempt',
    'lifecycle',
    'database',
    'notice',
    'instance',
  ]
    .filter((key) => rest[key] !== undefined)
    .map((key) => `${key}=${JSON.stringify(rest[key])}`);
  return ['decides ', of, `${message}:`, execution, action ?? next, reason && `because ${reason}`, ...other]
    .filter(Boolean)
    .join(' ');
}
