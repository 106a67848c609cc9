import { styleText } from 'node:util';
import type { Happening } from './cloud/kernel.ts';
import { failureOf } from './diagnosis.ts';
import type { Watcher } from './scenarios/scenario.ts';

/** What a drill shows while it runs, on stderr. */
export interface View extends Watcher {
  close(): void;
}

type Tone = 'plain' | 'good' | 'bad';
type Paint = (tone: Tone | 'faint', text: string) => string;

const STYLES = { faint: 'dim', plain: 'reset', good: 'green', bad: 'red' } as const;

/** Colours where the terminal has them and NO_COLOR is not set. */
export function painter(stream: NodeJS.WriteStream): Paint {
  return (tone, text) => (tone === 'plain' ? text : styleText(STYLES[tone], text, { stream }));
}

/** A picture that changes in place on a terminal, else plain lines. */
export function openView(stream: NodeJS.WriteStream, now: () => number): View {
  return stream.isTTY && process.env['TERM'] !== 'dumb' ? new LiveView(stream, now) : new PlainView(stream);
}

/** Says in lines what happens. */
class Narrator {
  #began: number | undefined;
  readonly #said = new Set<string>();

  begun(at: number): void {
    this.#began = at;
  }

  /** A workflow can pass the same state several times on its way; that is said once for each replacement. */
  tell(happening: Happening): { readonly at: string; readonly text: string; readonly tone: Tone } | undefined {
    const told = describe(happening);
    if (!told) return undefined;
    const [text, tone = 'plain'] = told;
    if (happening.kind === 'state-entered') {
      if (happening.detail['state'] === 'Arm a replacement') this.#said.clear();
      if (this.#said.has(text)) return undefined;
      this.#said.add(text);
    }
    const seconds = this.#began === undefined ? '' : ((happening.at - this.#began) / 1000).toFixed(1);
    return { at: `t+${seconds.padStart(5)} s`, text, tone };
  }
}

/** Progress as plain lines, for logs and pipes. */
class PlainView implements View {
  readonly #out: NodeJS.WriteStream;
  readonly #narrator = new Narrator();

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  say(line: string): void {
    this.#out.write(`${line}\n`);
  }

  begun(at: number): void {
    this.#narrator.begun(at);
  }

  committed(): void {}

  happening(happening: Happening): void {
    const told = this.#narrator.tell(happening);
    if (told) this.say(`  ${told.at}  ${told.text}`);
  }

  close(): void {}
}

/** How often the picture is drawn anew. */
const FRAME_MS = 200;
/** Each mark of the strip of commits stands for so long. */
const MARK_MS = 500;
const MOST_MARKS = 60;
const LABEL = 9;
/** Room beside bar and strip for what they come to. */
const FIGURES = 18;

/** The steps as lines, and below them, in place, the countdown and the client's commits. */
class LiveView implements View {
  readonly #out: NodeJS.WriteStream;
  readonly #now: () => number;
  readonly #paint: Paint;
  readonly #narrator = new Narrator();
  readonly #timer: NodeJS.Timeout;
  /** Rows by the number of the time span in which they were acknowledged. */
  readonly #commits = new Map<number, number>();
  readonly #restore = () => this.#out.write(SHOW_CURSOR);
  #acknowledged = 0;
  #firstCommit: number | undefined;
  #deadline: { readonly from: number; readonly seconds: number } | undefined;
  #relocatedAt: number | undefined;
  #drawn = 0;

  constructor(out: NodeJS.WriteStream, now: () => number) {
    this.#out = out;
    this.#now = now;
    this.#paint = painter(out);
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
    process.once('exit', this.#restore);
    out.write(HIDE_CURSOR);
  }

  say(line: string): void {
    this.#draw([line]);
  }

  begun(at: number, noticeSeconds?: number): void {
    this.#narrator.begun(at);
    if (noticeSeconds !== undefined) this.#deadline = { from: at, seconds: noticeSeconds };
  }

  committed(acknowledged: number, at: number): void {
    const mark = Math.floor(at / MARK_MS);
    this.#commits.set(mark, (this.#commits.get(mark) ?? 0) + acknowledged - this.#acknowledged);
    this.#acknowledged = acknowledged;
    this.#firstCommit ??= at;
  }

  happening(happening: Happening): void {
    if (happening.kind === 'state-entered' && happening.detail['state'] === 'Relocated')
      this.#relocatedAt = happening.at;
    const told = this.#narrator.tell(happening);
    if (told) this.#draw([`  ${this.#paint('faint', told.at)}  ${this.#paint(told.tone, told.text)}`]);
  }

  close(): void {
    clearInterval(this.#timer);
    if (this.#drawn > 0) this.#draw();
    if (this.#drawn > 0) this.#out.write('\n');
    this.#drawn = 0;
    process.off('exit', this.#restore);
    this.#restore();
  }

  /** Writes the lines, and below them the picture over the one that was there. */
  #draw(lines: readonly string[] = []): void {
    const picture = this.#firstCommit === undefined ? [] : ['', ...this.#countdown(), this.#commitLine()];
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A\r` : '';
    const text = [...lines, ...picture].map((line) => `${line}\u001b[K\n`).join('');
    this.#out.write(`${up}${text}`);
    this.#drawn = picture.length;
  }

  get #width(): number {
    return Math.max(10, Math.min(MOST_MARKS, (this.#out.columns || 80) - LABEL - FIGURES - 1));
  }

  #countdown(): string[] {
    if (!this.#deadline) return [];
    const { from, seconds } = this.#deadline;
    const left = Math.max(0, seconds - ((this.#relocatedAt ?? this.#now()) - from) / 1000);
    const full = Math.round((left / seconds) * this.#width);
    const bar = `${'█'.repeat(full)}${this.#paint('faint', '░'.repeat(this.#width - full))}`;
    const verb = this.#relocatedAt === undefined ? 'left' : 'to spare';
    return [`${'notice'.padEnd(LABEL)}${bar}  ${left.toFixed(0)} s ${verb}`];
  }

  #commitLine(): string {
    const last = Math.floor(this.#now() / MARK_MS) - 1; // the present one is not over yet
    const first = Math.floor((this.#firstCommit ?? 0) / MARK_MS);
    const most = Math.max(...this.#commits.values());
    const marks = Array.from({ length: this.#width }, (_, i) => {
      const mark = last - this.#width + 1 + i;
      const rows = this.#commits.get(mark) ?? 0;
      if (rows === 0) return mark < first ? ' ' : this.#paint('bad', '·');
      return this.#paint('good', rows > most / 2 ? '█' : '▄');
    });
    return `${'commits'.padEnd(LABEL)}${marks.join('')}  ${this.#acknowledged.toLocaleString('en')} rows`;
  }
}

const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

/** One line for a person, or nothing for what only programs want to know. */
function describe(happening: Happening): readonly [text: string, tone?: Tone] | undefined {
  const { kind, subject, detail } = happening;
  const failure = failureOf(happening);
  if (failure !== undefined) return [failure, 'bad'];
  const host = String(detail['instanceId'] ?? '');
  switch (kind) {
    case 'spot-notice':
      return [`notice: AWS takes ${subject} in ${detail['noticeSeconds']} s`];
    case 'state-entered':
      return STORY_STATES[String(detail['state'])];
    case 'state-failed':
      return detail['handling'] === 'retried'
        ? undefined
        : [[detail['state'], detail['error'], detail['cause']].filter(Boolean).join(': ').slice(0, 200), 'bad'];
    case 'instance-state':
      return detail['state'] === 'pending'
        ? [`${subject} is pending (${detail['instanceType']}, ${detail['lifecycle']})`]
        : [`${subject} is ${detail['state']}`];
    case 'volume-attachment': {
      const state = String(detail['state']);
      const volume = detail['snapshotId'] === undefined ? 'the volume' : `a clone of ${detail['snapshotId']}`;
      return detail['root']
        ? undefined
        : [`${volume} is ${state} ${state.startsWith('detach') ? 'from' : 'to'} ${host}`];
    }
    case 'volume-modification':
      return detail['progress'] === 0
        ? [`the volume is to have ${detail['sizeGiB']} GiB: ${detail['state']}`]
        : undefined;
    case 'snapshot':
      return [`the snapshot ${subject} is ${detail['state']}`, detail['state'] === 'error' ? 'bad' : 'plain'];
    case 'address':
      return detail['state'] === 'assigned' ? [`the address leads to ${host}`] : undefined;
    case 'command':
      return detail['phase'] === 'ended' && detail['exitCode'] === 0
        ? [`${String(detail['document']).replace(/^.*-/, '')} on ${host} is done`]
        : undefined;
    case 'output': {
      const [, said] = /^prove: (.*)/.exec(String(detail['line'])) ?? [];
      return said === undefined ? undefined : [`${subject}: ${said}`, / took [\d.]+ s$/.test(said) ? 'plain' : 'bad'];
    }
    case 'takeover':
      return Array.isArray(detail['steps']) && detail['steps'].some(({ name }) => name === 'start-database')
        ? [`PostgreSQL serves on ${subject}`, 'good']
        : undefined;
    case 'denied':
      return [`DENIED: ${subject} on ${detail['resource']}`, 'bad'];
    case 'broken-promise':
      return [`BROKEN: ${subject}: ${detail['what']}`, 'bad'];
    default:
      return undefined;
  }
}

const STORY_STATES: Readonly<Record<string, readonly [text: string, tone?: Tone]>> = {
  Preflight: ['preflight: what speaks against it?'],
  'Take a snapshot': ['nothing does; a snapshot first, to be kept for 90 days'],
  'Grow the file system': ['the volume is larger; now its file system'],
  'Start the relocation': ['a planned relocation: the source is kept until the new host has served'],
  Changed: ['changed', 'good'],
  'Arm a replacement': ['launching a replacement, which reports when it is armed'],
  Checkpoint: ['the source writes its dirty buffers'],
  'Move the volume': ['a replacement is armed: volume and address go over to it'],
  'Retire the source': ['a write has proven the host that serves; the other one goes'],
  Relocated: ['relocated', 'good'],
  'Take the census: find the host': ['a census first, inside of the database that it counts'],
  'Prove it': ['a scratch host with a clone of the snapshot'],
  'Keep the evidence': ['the scratch host has reported; its evidence goes to S3'],
  Proven: ['proven', 'good'],
  'Backed up and proven': ['backed up and proven', 'good'],
};
