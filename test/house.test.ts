import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, statSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { installPackages } from '../drill/system.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface Room {
  /** Folders or files of this project that it may import from, apart from itself. */
  readonly from: readonly string[];
  /** Packages, each with what is below it; `node:` for what comes with Node. */
  readonly packages: readonly string[];
}

const CDK = ['aws-cdk-lib', 'constructs', 'node:'];
const LAMBDA = ['@aws-sdk', '@middy/core', '@aws-lambda-powertools/logger', 'node:'];
const DEVELOPMENT = Object.keys(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).devDependencies);

/** Which way the arrows point. The first that a file is in counts. */
const ROOMS: Readonly<Record<string, Room>> = {
  // Decisions touch neither AWS nor the machine.
  'functions/core': { from: [], packages: [] },
  'functions/shared': { from: ['functions/core'], packages: LAMBDA },
  ...Object.fromEntries(
    [
      'launch',
      'look',
      'move',
      'on-interruption',
      'preflight',
      'prove',
      'reconcile',
      'recovery-point',
      'remove-hosts',
      'retire',
    ].map((handler) => [`functions/${handler}`, { from: ['functions/core', 'functions/shared'], packages: LAMBDA }]),
  ),
  workflows: { from: ['functions/core', 'functions/shared/database.ts'], packages: CDK },
  infra: {
    from: [
      'workflows',
      'functions/core',
      'functions/shared/database.ts',
      'functions/shared/user-data.ts',
      'keeper.config.ts',
    ],
    packages: [...CDK, 'esbuild'],
  },
  'keeper.config.ts': { from: ['infra/config.ts'], packages: [] },
  // It runs what infra synthesizes, never a copy of it.
  drill: { from: ['functions/core/tags.ts', 'keeper.config.ts'], packages: [...DEVELOPMENT, '@aws-sdk', 'node:'] },
  bench: { from: ['drill'], packages: ['node:'] },
  test: {
    from: ['functions', 'workflows', 'infra', 'drill', 'bench', 'keeper.config.ts'],
    packages: [...DEVELOPMENT, ...LAMBDA, ...CDK],
  },
};

const SOURCES = globSync('**/*.ts', {
  cwd: ROOT,
  exclude: ['node_modules', 'cdk.out', 'coverage', 'vitest.config.ts'],
});

function isIn(path: string, place: string): boolean {
  return path === place || path.startsWith(`${place}/`);
}

function roomOf(file: string): string | undefined {
  return Object.keys(ROOMS).find((room) => isIn(file, room));
}

/** What a file imports: paths from the root of the project, and names of packages. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const statements = text.matchAll(
    /^(?:import|export)\b[^;'"]*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm,
  );
  return [...statements]
    .map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '')
    .map((name) => (name.startsWith('.') ? join(dirname(file), name) : name));
}

describe('the arrows between the rooms', () => {
  it('start in a room that is known', () => {
    expect(SOURCES.length).toBeGreaterThan(100);
    expect(SOURCES.filter((file) => roomOf(file) === undefined)).toEqual([]);
  });

  it('point one way', () => {
    const wrong = SOURCES.flatMap((file) => {
      const name = roomOf(file) ?? '';
      const room = ROOMS[name];
      const allowed = (imported: string) =>
        statSync(join(ROOT, imported), { throwIfNoEntry: false })
          ? [name, ...(room?.from ?? [])].some((place) => isIn(imported, place))
          : (room?.packages ?? []).some((each) => isIn(imported, each) || (each === 'node:' && isBuiltin(imported)));
      return importsOf(file)
        .filter((imported) => !allowed(imported))
        .map((imported) => `${file} imports ${imported}`);
    });
    expect(wrong).toEqual([]);
  });
});

describe('the shell scripts', () => {
  const scripts = globSync(['commands/*', 'drill/**/*'], { cwd: ROOT }).filter(
    (path) => statSync(join(ROOT, path)).isFile() && /^#!.*\b(ba)?sh\b/.test(readFileSync(join(ROOT, path), 'utf8')),
  );

  beforeAll(() => installPackages(console.error, { shellcheck: 'shellcheck' }), 300_000);

  it('are those of the commands and of the hosts with real disks', () => {
    expect(scripts).toEqual(expect.arrayContaining(globSync('commands/*.sh', { cwd: ROOT })));
    expect(scripts).toEqual(expect.arrayContaining(globSync('drill/hosts/real/**/*.sh', { cwd: ROOT })));
  });

  it('are clean to shellcheck', () => {
    const { stdout, status } = spawnSync('shellcheck', ['--format=gcc', ...scripts], { cwd: ROOT, encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });
});
