import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** All that a synthesis depends on. */
const SOURCES = ['keeper.config.ts', 'package-lock.json', 'cdk.json', 'infra', 'workflows', 'functions', 'commands'];
/** Another run may still use an assembly of older sources. */
const DAY_MS = 86_400_000;
const CACHE = join(ROOT, 'node_modules', '.cache', 'keeper');

/**
 * Synthesizes the app as `npx cdk synth` does, and returns the folder of the cloud assembly. A synthesis of the same
 * sources is taken from node_modules/.cache.
 *
 * @throws Error with what synth printed
 */
export async function synthesize(): Promise<string> {
  const directory = join(CACHE, `assembly-${hashSources()}`);
  if (existsSync(join(directory, 'manifest.json'))) return directory;
  const unfinished = `${directory}.${process.pid}`;
  rmSync(unfinished, { recursive: true, force: true });
  // What the CDK's command line adds by itself: each resource says where its asset lies.
  const metadata = { 'aws:cdk:enable-asset-metadata': true, 'aws:cdk:enable-path-metadata': true };
  const context = { ...JSON.parse(readFileSync(join(ROOT, 'cdk.json'), 'utf8')).context, ...metadata };
  try {
    await promisify(execFile)(process.execPath, [join(ROOT, 'infra', 'app.ts')], {
      cwd: ROOT,
      env: { ...process.env, CDK_OUTDIR: unfinished, CDK_CONTEXT_JSON: JSON.stringify(context) },
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw new Error(`the app does not synthesize: ${(error as { stderr?: string }).stderr ?? error}`, { cause: error });
  }
  if (!existsSync(join(unfinished, 'manifest.json')))
    throw new Error('the app does not synthesize: run npx cdk synth to see why');
  for (const old of readdirSync(CACHE)) {
    if (Date.now() - statSync(join(CACHE, old)).mtimeMs > DAY_MS)
      rmSync(join(CACHE, old), { recursive: true, force: true });
  }
  if (existsSync(directory)) rmSync(unfinished, { recursive: true });
  else renameSync(unfinished, directory);
  return directory;
}

function hashSources(): string {
  const hash = createHash('sha256');
  const add = (path: string): void => {
    const full = join(ROOT, path);
    if (statSync(full).isDirectory()) {
      for (const entry of readdirSync(full).sort()) add(join(path, entry));
    } else {
      hash.update(`${path}\0`).update(readFileSync(full));
    }
  };
  for (const source of SOURCES) add(source);
  return hash.digest('hex').slice(0, 16);
}
