import { globSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { withLiteralKeys } from '../../infra/literal-keys.ts';

describe('literal keys', () => {
  it('take the place of constants of the same module', () => {
    const source = 'const _a = "A";\nconst _b = "B";\nexport const x = [1, { [_a]: 2, [_b]: { [_a]: [_b] } }];';
    expect(withLiteralKeys(source)).toBe(
      'const _a = "A";\nconst _b = "B";\nexport const x = [1, { "A": 2, "B": { "A": [_b] } }];',
    );
  });

  it.each([
    'let _a = "A"; x = { [_a]: 1 };',
    'import { _a } from "./a.js";\nx = { [_a]: 1 };',
    'const _a = compute();\nx = { [_a]: 1 };',
    'const _a = "__proto__";\nx = { [_a]: 1 };',
    'const _a = "A";\nx = y ? z[_a]: 1;',
  ])('leave %j as it is', (source) => {
    expect(withLiteralKeys(source)).toBe(source);
  });

  it.each(['ec2', 'ssm', 'sfn'])('leave nothing to compute in what the SDK says of %s', (service) => {
    const [path = '', ...more] = globSync(`node_modules/@aws-sdk/client-${service}/dist-es/schemas/schemas_*.js`);
    expect(more).toEqual([]);
    const source = readFileSync(path, 'utf8');
    const changed = withLiteralKeys(source);
    expect(source).toMatch(/\[_\w+\]:/);
    expect(changed).not.toMatch(/\[_\w+\]:/);
    // What is left of both when all keys are gone is the same.
    const withoutKeys = (text: string) => text.replaceAll(/(?<=[{,]\s*)(\[_\w+\]|"[^"]*"):/g, ':');
    expect(withoutKeys(changed)).toBe(withoutKeys(source));
  });
});
