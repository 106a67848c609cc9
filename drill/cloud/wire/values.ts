import { AwsError, type Shape } from '../kernel.ts';
import type { TimestampFormat } from './schema.ts';

/** What AWS answers when a value does not have the type that the schema gives it. */
export function malformed(path: string, value: unknown): AwsError {
  return new AwsError('SerializationException', `${path}: ${JSON.stringify(value)} does not have the expected type`);
}

/** @throws AwsError SerializationException for anything that is not a point in time */
export function parseTimestamp(value: string | number, path: string): Date {
  const numeric = typeof value === 'number' || /^\d+(\.\d+)?$/.test(value);
  const date = new Date(numeric ? Number(value) * 1000 : value);
  if (Number.isNaN(date.getTime())) throw malformed(path, value);
  return date;
}

export function formatTimestamp(date: Date, format: Exclude<TimestampFormat, 'default'>): string | number {
  if (format === 'epoch-seconds') return date.getTime() / 1000;
  return format === 'http-date' ? date.toUTCString() : date.toISOString();
}

/**
 * Members of an answer that its schema lacks are a mistake of the model that gave it.
 * @throws Error naming them
 */
export function refuseUnknown(structure: string, value: Shape, isKnown: (name: string) => boolean): void {
  for (const name in value) {
    if (value[name] !== undefined && !isKnown(name)) {
      throw new Error(`an answer of the local cloud has ${structure}.${name}, which the AWS SDK's schema lacks`);
    }
  }
}
