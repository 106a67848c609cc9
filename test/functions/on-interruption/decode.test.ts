import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MalformedInput } from '../../../functions/core/errors.ts';
import { decodeEnvelope } from '../../../functions/on-interruption/event.ts';
import { decodeInterruptionWarning } from '../../../functions/on-interruption/interruption-warning.ts';
import { decodeRebalanceRecommendation } from '../../../functions/on-interruption/rebalance-recommendation.ts';
import { decodeStateChange } from '../../../functions/on-interruption/state-change.ts';

function sample(name: string) {
  return JSON.parse(
    readFileSync(new URL(`../../../functions/on-interruption/${name}.sample.json`, import.meta.url), 'utf8'),
  );
}

describe('the interruption warning', () => {
  it('is read as AWS documents it: the ARN has the zone and no account, so only the detail names the instance', () => {
    const event = sample('interruption-warning');
    expect(event.resources).toEqual(['arn:aws:ec2:us-east-2a:instance/i-1234567890abcdef0']);
    expect(decodeInterruptionWarning(decodeEnvelope(event))).toEqual({
      kind: 'interruption-warning',
      instanceId: 'i-1234567890abcdef0',
      noticedAt: '2026-01-05T12:00:00.000Z',
    });
  });
  it.each(['stop', 'hibernate'])('counts as well when the instance is to %s', (action) => {
    const event = sample('interruption-warning');
    event.detail['instance-action'] = action;
    expect(decodeInterruptionWarning(decodeEnvelope(event)).instanceId).toBe('i-1234567890abcdef0');
  });
  it.each([
    [
      'an action that AWS does not document',
      { detail: { 'instance-id': 'i-1234567890abcdef0', 'instance-action': 'explode' } },
    ],
    ['no instance', { detail: { 'instance-action': 'terminate' } }],
    [
      'an instance id with something behind it',
      { detail: { 'instance-id': 'i-1234567890abcdef0; reboot', 'instance-action': 'terminate' } },
    ],
    ['no time', { time: undefined }],
    ['a time that is none', { time: 'soon' }],
  ])('is malformed with %s', (_, change) => {
    const event = decodeEnvelope({ ...sample('interruption-warning'), ...change });
    expect(() => decodeInterruptionWarning(event)).toThrow(MalformedInput);
  });
});

describe('the rebalance recommendation', () => {
  it('names the instance and no deadline', () => {
    expect(decodeRebalanceRecommendation(decodeEnvelope(sample('rebalance-recommendation')))).toEqual({
      kind: 'rebalance-recommendation',
      instanceId: 'i-1234567890abcdef0',
    });
  });
});

describe('the change of state', () => {
  it('is read as AWS documents it, and is none of an ending when the instance begins', () => {
    const event = sample('state-change');
    expect(() => decodeStateChange(decodeEnvelope(event))).toThrow('detail.state is "pending"');
    event.detail.state = 'shutting-down';
    expect(decodeStateChange(decodeEnvelope(event))).toEqual({ kind: 'host-lost', instanceId: 'i-abcd1111' });
  });
  it.each([
    ['a state that AWS does not document', 'exploding'],
    ['no state', undefined],
  ])('is malformed with %s', (_, state) => {
    const event = { ...sample('state-change'), detail: { 'instance-id': 'i-abcd1111', state } };
    expect(() => decodeStateChange(decodeEnvelope(event))).toThrow(MalformedInput);
  });
});

describe('anything else', () => {
  it('is malformed, and never an error of another kind', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.anything(),
          fc.record({ source: fc.string(), 'detail-type': fc.string(), time: fc.anything(), detail: fc.object() }),
        ),
        (event) => {
          for (const decode of [decodeInterruptionWarning, decodeRebalanceRecommendation]) {
            try {
              expect(decode(decodeEnvelope(event)).instanceId).toMatch(/^i-[0-9a-f]+$/);
            } catch (error) {
              expect(error).toBeInstanceOf(MalformedInput);
            }
          }
        },
      ),
      { numRuns: 500, seed: 1 },
    );
  });
});
