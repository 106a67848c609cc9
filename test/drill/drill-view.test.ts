import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Happening } from '../../drill/cloud/kernel.ts';
import { openView } from '../../drill/view.ts';

/** A terminal of 80 columns, as far as the view uses one. */
class Terminal extends EventEmitter {
  readonly isTTY: boolean;
  readonly columns = 80;
  readonly rows = 24;
  readonly lines: string[] = [''];
  raw = '';
  #row = 0;
  #column = 0;

  constructor(isTTY = true) {
    super();
    this.isTTY = isTTY;
  }

  getColorDepth(): number {
    return 8;
  }

  write(text: string): boolean {
    this.raw += text;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal is made of them
    for (const [token, count, code] of text.matchAll(/\u001b\[\??(\d*)([A-Za-z])|\n|\r|[^\u001b\n\r]+/g)) {
      const line = this.lines[this.#row] ?? '';
      if (code === 'A') this.#row -= Number(count);
      else if (code === 'K') this.lines[this.#row] = line.slice(0, this.#column);
      else if (token === '\r') this.#column = 0;
      else if (token === '\n') {
        this.lines[++this.#row] ??= '';
        this.#column = 0;
      } else if (code === undefined) {
        this.lines[this.#row] = line.slice(0, this.#column) + token + line.slice(this.#column + token.length);
        this.#column += token.length;
      }
    }
    return true;
  }
}

function open(terminal: Terminal, now: () => number) {
  return openView(terminal as unknown as NodeJS.WriteStream, now);
}

function entered(at: number, state: string): Happening {
  return { at, kind: 'state-entered', subject: 'lighthouse-i-1', detail: { state } };
}

describe('the view of a drill', () => {
  afterEach(() => vi.useRealTimers());

  it('says once for each replacement what a workflow passes several times', () => {
    const terminal = new Terminal(false);
    const view = open(terminal, () => 0);
    view.begun(1_000, 120);
    for (const state of [
      'Arm a replacement',
      'Move the volume',
      'Ask the host',
      'Move the volume',
      'Move the volume',
    ]) {
      view.happening(entered(3_500, state));
    }
    view.happening(entered(40_000, 'Arm a replacement'));
    view.happening(entered(70_000, 'Move the volume'));
    expect(terminal.lines).toEqual([
      '  t+  2.5 s  launching a replacement, which reports when it is armed',
      '  t+  2.5 s  a replacement is armed: volume and address go over to it',
      '  t+ 39.0 s  launching a replacement, which reports when it is armed',
      '  t+ 69.0 s  a replacement is armed: volume and address go over to it',
      '',
    ]);
  });

  it('says what fails, with host and reason', () => {
    const terminal = new Terminal(false);
    const view = open(terminal, () => 0);
    view.begun(0, 120);
    const detail = { phase: 'ended', document: 'keeper-release', instanceId: 'i-1', exitCode: 13, stderr: 'busy' };
    view.happening({ at: 42_000, kind: 'command', subject: 'c-1', detail });
    expect(terminal.lines[0]).toBe('  t+ 42.0 s  release on i-1 ended with exit code 13: busy');
  });

  it('tells the clone of a scratch host from the volume, and what is found on it', () => {
    const terminal = new Terminal(false);
    const view = open(terminal, () => 0);
    view.begun(0);
    const detail = { instanceId: 'i-2', state: 'attached', root: false };
    view.happening({ at: 1_000, kind: 'volume-attachment', subject: 'vol-1', detail });
    const ofClone = { ...detail, snapshotId: 'snap-1' };
    view.happening({ at: 2_000, kind: 'volume-attachment', subject: 'vol-2', detail: ofClone });
    view.happening({ at: 3_000, kind: 'output', subject: 'i-2', detail: { line: 'prove: census: it is missing' } });
    expect(terminal.lines.slice(0, 3)).toEqual([
      '  t+  1.0 s  the volume is attached to i-2',
      '  t+  2.0 s  a clone of snap-1 is attached to i-2',
      '  t+  3.0 s  i-2: census: it is missing',
    ]);
  });

  it('shows countdown and commits in place, with the gap, and leaves nothing else on the terminal', () => {
    vi.useFakeTimers();
    let now = 1_000_000;
    const terminal = new Terminal();
    const view = open(terminal, () => now);
    view.say('lighthouse serves');
    view.begun(now, 120);
    for (let rows = 0; now < 1_030_000; ) {
      now += 100;
      if (now < 1_010_000 || now > 1_015_000) {
        rows += 20;
        view.committed(rows, now);
      }
      vi.advanceTimersByTime(100);
    }
    view.happening(entered(now, 'Relocated'));
    view.close();
    expect(terminal.lines).toEqual([
      'lighthouse serves',
      '  t+ 30.0 s  relocated',
      '',
      expect.stringMatching(/^notice {3}█{39}░{13} {2}90 s to spare$/),
      expect.stringMatching(/^commits {2}[█▄]{12}·{10}[█▄]{30} {2}4,980 rows$/),
      '',
      '',
    ]);
    expect(terminal.lines.every((line) => line.length < 80)).toBe(true);
    expect(terminal.raw).toContain('\u001b[31m·');
    expect(terminal.raw.startsWith('\u001b[?25l')).toBe(true);
    expect(terminal.raw.endsWith('\u001b[?25h')).toBe(true);
  });

  it('counts nothing down where nobody has given notice', () => {
    vi.useFakeTimers();
    let now = 1_000_000;
    const terminal = new Terminal();
    const view = open(terminal, () => now);
    view.begun(now);
    view.committed(10, now);
    now += 1_000;
    vi.advanceTimersByTime(1_000);
    view.close();
    expect(terminal.lines).toEqual(['', expect.stringMatching(/^commits .* 10 rows$/), '', '']);
  });
});
