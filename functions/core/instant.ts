const ISO_8601 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

/**
 * Reads a moment as Keeper writes it into tags, `2026-01-05T12:00:00.000Z`; strictly, because `Date.parse` makes a date of
 * `1` and of the 31st of February.
 *
 * @returns milliseconds since the epoch, or undefined when the text is no such moment
 */
export function parseInstant(text: string): number | undefined {
  const instant = ISO_8601.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isFinite(instant)) return undefined;
  return new Date(instant).toISOString().slice(0, 19) === text.slice(0, 19) ? instant : undefined;
}
