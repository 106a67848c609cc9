import { Logger } from '@aws-lambda-powertools/logger';

/** Structured logs; a line is one decision or one outcome, with its reason. No payload is ever logged whole. */
export const logger = new Logger({ serviceName: 'keeper' });
