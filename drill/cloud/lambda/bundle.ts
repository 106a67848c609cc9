import { readFileSync, statSync } from 'node:fs';
import { Script } from 'node:vm';

/** A call of `import()` with the name of a built-in module, as bundlers leave it in CommonJS. */
const IMPORT_OF_BUILTIN = /(?<![.\w$])import\((?=["'](?:node:)?[a-z_/]+["']\))/g;

/** Built functions, each compiled once however often it is evaluated. */
export class Bundles {
  readonly #parameters: string;
  readonly #compiled = new Map<string, { readonly modifiedAt: number; readonly script: Script }>();

  /** @param parameters what the code finds in scope: the wrapper function's parameters */
  constructor(parameters: readonly string[]) {
    this.#parameters = parameters.join(',');
  }

  /**
   * A script whose value is a function that evaluates the bundle. In it, `import()` of a built-in module has become
   * `importBuiltin()`: the real one would leave the sandbox, and waits for a loader that virtual time does not wait for.
   * @param file absolute path of a CommonJS file
   */
  compile(file: string): Script {
    const modifiedAt = statSync(file).mtimeMs;
    const known = this.#compiled.get(file);
    if (known?.modifiedAt === modifiedAt) return known.script;
    const source = readFileSync(file, 'utf8').replace(IMPORT_OF_BUILTIN, 'importBuiltin(');
    const script = new Script(`(function(${this.#parameters}){${source}\n})`, { filename: file });
    this.#compiled.set(file, { modifiedAt, script });
    return script;
  }
}
