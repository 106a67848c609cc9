/** A JSONata expression as the Amazon States Language wants it. */
export function jsonata(expression: string): string {
  return `{% ${expression} %}`;
}
