const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;

export type Day = (typeof DAYS)[number];

/** When Keeper may move a database that nothing forces to move. All times are UTC. */
export interface MaintenanceWindow {
  /** The days on which it opens. Default: every day. */
  readonly days?: readonly Day[];
  /** When it opens, `HH:MM`. */
  readonly from: string;
  /** How long it stays open, 1 to 24, past midnight too. */
  readonly hours: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const TIME = /^([01]\d|2[0-3]):([0-5]\d)$/;

/** What is wrong with a window, each with the field and a value that would do; empty when nothing is. */
export function checkWindow({ days, from, hours }: MaintenanceWindow): string[] {
  const problems: string[] = [];
  if (days?.length === 0)
    problems.push("days: is empty, so the window never opens; write for example ['sat', 'sun'], or leave it out");
  for (const day of days ?? []) {
    if (!DAYS.includes(day)) problems.push(`days: ${JSON.stringify(day)} is no day of the week; write for example sun`);
  }
  if (!TIME.test(from))
    problems.push(`from: ${JSON.stringify(from)} is no time of day in UTC; write for example 03:00`);
  if (!Number.isInteger(hours) || hours < 1 || hours > 24)
    problems.push(`hours: ${hours} is not a whole number from 1 to 24; write for example 2`);
  return problems;
}

/**
 * When the window that is open now has opened. The end itself is outside.
 *
 * @param window as {@link checkWindow} approves it
 * @param now milliseconds since the epoch
 * @returns milliseconds since the epoch, or undefined while it is closed
 */
export function openedAt(window: MaintenanceWindow, now: number): number | undefined {
  const midnight = Math.floor(now / DAY_MS) * DAY_MS;
  const [, hour, minute] = TIME.exec(window.from) ?? [];
  const today = midnight + Number(hour) * HOUR_MS + Number(minute) * 60_000;
  // No window is longer than a day, so one that is open has opened today or yesterday.
  return [today, today - DAY_MS].find(
    (opening) => opening <= now && now < opening + window.hours * HOUR_MS && opensOn(window, opening),
  );
}

/** @param now milliseconds since the epoch */
export function isOpen(window: MaintenanceWindow, now: number): boolean {
  return openedAt(window, now) !== undefined;
}

function opensOn({ days = DAYS }: MaintenanceWindow, opening: number): boolean {
  const day = DAYS[new Date(opening).getUTCDay()];
  return day !== undefined && days.includes(day);
}
