import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { type Resource, resourcesOf } from './template.ts';

/** What stands between a notice and everything else: see `npm run bench`. */
const FIRST = { name: 'on-interruption', bytes: 350_000 };
/** With the EC2 client, as far as it is used. With the descriptions of all its operations it would be 900 kB and more. */
const MOST_BYTES = 480_000;

/** Modules that a bundle asks for and does without. */
const OPTIONAL: Readonly<Record<string, string>> = {
  '@aws-sdk/signature-v4-crt': 'signs for several regions at once (SigV4a), which no client here does',
};

function bundleOf({ assetPath }: Resource): string {
  return readFileSync(join(inject('assembly'), String(assetPath), 'index.js'), 'utf8');
}

const nameOf = ({ path }: Resource) => path.split('/')[0] ?? '';
const functions = resourcesOf('AWS::Lambda::Function');

describe.each(functions.map((each) => [nameOf(each), each] as const))('the bundle of %s', (name, resource) => {
  const bundle = bundleOf(resource);

  it(`has at most ${name === FIRST.name ? FIRST.bytes : MOST_BYTES} bytes`, () => {
    expect(Buffer.byteLength(bundle)).toBeLessThanOrEqual(name === FIRST.name ? FIRST.bytes : MOST_BYTES);
  });

  it('holds all that it needs: nothing is left to what Lambda happens to have', () => {
    const required = [...bundle.matchAll(/\brequire\("([^"]+)"\)/g)].map(([, module = '']) => module);
    expect(required).toContain('node:https');
    expect(required.filter((module) => !isBuiltin(module) && !(module in OPTIONAL))).toEqual([]);
  });
});

it('the bundle that a notice starts has no EC2 client, which is heavier than all the rest', () => {
  const ec2 = /com\.amazonaws\.ec2/;
  const having = functions.filter((each) => ec2.test(bundleOf(each))).map(nameOf);
  expect(having).toContain('launch');
  expect(having).not.toContain(FIRST.name);
});
