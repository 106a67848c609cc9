import type { Happening } from './cloud/kernel.ts';
import type { Watcher } from './scenarios/spot-interruption.ts';

/** How often the picture is drawn anew. */
const FRAME_MS = 200;
const BAR_WIDTH = 40;
/** Of commits: one mark a half second, the last half minute. */
const COMMIT_MARKS = 60;
const MARK_MS = 500;

/** Progress as plain lines on stderr, for logs and pipes. */
export class PlainView implements Watcher {
  readonly #write: (line: string) => void;
  #noticed: number | undefined;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  say(line: string): void {
    this.#write(line);
  }

  countdown(from: number, seconds: number): void {
    this.#noticed = from;
    this.#write(`AWS takes the host in ${seconds} s`);
  }

  committed(): void {}

  happening(happening: Happening): void {
    const line = describe(happening);
    if (line) this.#write(`  ${sinceText(happening.at, this.#noticed)}  ${line}`);
  }

  close(): void {}
}

/** The same as a picture that changes in place: the countdown, the steps, and the client's commits. */
export class LiveView implements Watcher {
  readonly #out: NodeJS.WriteStream;
  readonly #now: () => number;
  readonly #lines: string[] = [];
  readonly #commits: { at: number; acknowledged: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  #noticed: number | undefined;
  #seconds = 0;
  #drawn = 0;

  constructor(out: NodeJS.WriteStream, now: () => number) {
    this.#out = out;
    this.#now = now;
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
  }

  say(line: string): void {
    this.#lines.push(line);
  }

  countdown(from: number, seconds: number): void {
    this.#noticed = from;
    this.#seconds = seconds;
    this.#lines.push(`AWS takes the host in ${seconds} s`);
  }

  committed(acknowledged: number, at: number): void {
    this.#commits.push({ at, acknowledged });
  }

  happening(happening: Happening): void {
    const line = describe(happening);
    if (line) this.#lines.push(`  ${sinceText(happening.at, this.#noticed)}  ${line}`);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#draw();
  }

  #draw(): void {
    const rows = this.#out.rows ?? 24;
    const columns = this.#out.columns ?? 80;
    const picture = [...this.#lines.slice(-(rows - 4)), this.#countdownLine(), this.#commitLine()];
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : '';
    this.#out.write(`${up}${picture.map((line) => `\u001b[2K${line.slice(0, columns - 1)}`).join('\n')}\n`);
    this.#drawn = picture.length;
  }

  #countdownLine(): string {
    if (this.#noticed === undefined) return '';
    const left = Math.max(0, this.#seconds - (this.#now() - this.#noticed) / 1000);
    const full = Math.round((left / this.#seconds) * BAR_WIDTH);
    return `notice  ${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}  ${left.toFixed(0)} s left`;
  }

  #commitLine(): string {
    const now = this.#now();
    const marks = Array.from({ length: COMMIT_MARKS }, (_, i) => {
      const to = now - (COMMIT_MARKS - 1 - i) * MARK_MS;
      return this.#commits.some(({ at }) => at > to - MARK_MS && at <= to) ? '▪' : ' ';
    });
    const { acknowledged = 0 } = this.#commits.at(-1) ?? {};
    return `commits ${marks.join('')}  ${acknowledged.toLocaleString('en')}`;
  }
}

function sinceText(at: number, noticed: number | undefined): string {
  if (noticed === undefined) return '        ';
  return `t+${((at - noticed) / 1000).toFixed(1).padStart(5)} s`;
}

/** One line for a person, or nothing for what only programs want to know. */
function describe({ kind, subject, detail }: Happening): string | undefined {
  const host = String(detail['instanceId'] ?? '');
  switch (kind) {
    case 'spot-notice':
      return `notice: AWS takes ${subject}`;
    case 'state-entered':
      return STORY_STATES[String(detail['state'])];
    case 'state-failed':
      return detail['handling'] === 'retried'
        ? undefined
        : `${detail['state']}: ${detail['error']}: ${String(detail['cause'] ?? '').slice(0, 200)}`;
    case 'instance-state':
      return `${subject} is ${detail['state']}${detail['state'] === 'pending' ? ` (${detail['instanceType']}, ${detail['lifecycle']})` : ''}`;
    case 'volume-attachment':
      return `the volume is ${detail['state']} ${String(detail['state']).startsWith('detach') ? 'from' : 'to'} ${host}`;
    case 'address':
      return detail['state'] === 'assigned' ? `the address leads to ${host}` : undefined;
    case 'command':
      return detail['phase'] === 'ended'
        ? `${String(detail['document']).replace(/^.*?-/, '')} on ${host} ended with exit code ${detail['exitCode']}`
        : undefined;
    case 'denied':
      return `DENIED: ${subject} on ${detail['resource']}`;
    case 'broken-promise':
      return `BROKEN: ${subject}: ${detail['what']}`;
    default:
      return undefined;
  }
}

const STORY_STATES: Readonly<Record<string, string>> = {
  'Arm a replacement': 'launching a replacement, which reports when it is armed',
  Checkpoint: 'the source writes its dirty buffers',
  'Move the volume': 'a replacement is armed: stop the source, move volume and address',
  'Retire the source': 'the new host has proven itself with a write; the source goes',
  Relocated: 'relocated',
};
