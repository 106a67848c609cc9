import { AwsError, NotModelled } from './kernel.ts';

/** @returns the next time after this one; both in milliseconds since the epoch */
export type Schedule = (after: number) => number;

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const UNITS: Readonly<Record<string, number>> = { minute: MINUTE, hour: 60 * MINUTE, day: DAY };
const MONTHS = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const WEEKDAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

/**
 * Reads a ScheduleExpression of a rule: `rate(5 minutes)` or `cron(0 3 * * ? *)`, in UTC.
 * @see docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
 * @throws AwsError ValidationException; NotModelled for L, W and # in a cron expression
 */
export function parseSchedule(expression: string): Schedule {
  const rate = /^rate\((\d+) (minute|hour|day)(s?)\)$/.exec(expression);
  if (rate) {
    const [, count = '', unit = '', plural] = rate;
    if (Number(count) === 0 || (count === '1') !== (plural === '')) throw invalid();
    const period = Number(count) * (UNITS[unit] ?? 0);
    return (after) => after + period;
  }
  const cron = /^cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)$/.exec(expression);
  if (cron) return parseCron(cron.slice(1));
  throw invalid();
}

function parseCron(fields: readonly string[]): Schedule {
  const [minute = '', hour = '', dayOfMonth = '', month = '', dayOfWeek = '', year = ''] = fields;
  if ((dayOfMonth === '?') === (dayOfWeek === '?')) throw invalid();
  const minutes = parseField(minute, 0, 59);
  const hours = parseField(hour, 0, 23);
  const daysOfMonth = parseField(dayOfMonth, 1, 31);
  const months = parseField(month, 1, 12, MONTHS);
  const daysOfWeek = parseField(dayOfWeek, 1, 7, WEEKDAYS);
  const years = parseField(year, 1970, 2199);
  const isDue = (day: Date): boolean =>
    years.has(day.getUTCFullYear()) &&
    months.has(day.getUTCMonth() + 1) &&
    daysOfMonth.has(day.getUTCDate()) &&
    daysOfWeek.has(day.getUTCDay() + 1);
  return (after) => {
    const today = Math.floor(after / DAY) * DAY;
    // 1461 days: four years, so that the 29th of February comes up
    for (let day = today; day <= today + 1461 * DAY; day += DAY) {
      if (!isDue(new Date(day))) continue;
      for (const h of hours) {
        for (const m of minutes) {
          const at = day + (h * 60 + m) * MINUTE;
          if (at > after) return at;
        }
      }
    }
    return Number.POSITIVE_INFINITY;
  };
}

/** The numbers that the field stands for, in ascending order. */
function parseField(field: string, first: number, last: number, names: readonly string[] = []): Set<number> {
  if (/[LW#]/.test(field.replace(/[A-Z]{3}/g, ''))) throw new NotModelled(`cron field ${field}`);
  const numberOf = (text: string): number => {
    const value = names.includes(text) ? names.indexOf(text) + 1 : Number(text);
    if (!Number.isInteger(value) || value < first || value > last) throw invalid();
    return value;
  };
  const numbers: number[] = [];
  for (const part of field.split(',')) {
    const [range = '', step] = part.split('/');
    const everything = range === '*' || range === '?';
    const [from = '', to = step ? String(last) : from] = everything ? [String(first), String(last)] : range.split('-');
    const increment = step === undefined ? 1 : Number(step);
    if (!(increment > 0)) throw invalid();
    for (let value = numberOf(from); value <= numberOf(to); value += increment) numbers.push(value);
  }
  return new Set(numbers.sort((a, b) => a - b));
}

function invalid(): AwsError {
  return new AwsError('ValidationException', 'Parameter ScheduleExpression is not valid.');
}
