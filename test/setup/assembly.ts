import type { TestProject } from 'vitest/node';
import { synthesize } from '../../drill/assembly.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The folder of the synthesized app. */
    assembly: string;
  }
}

/** Once for all test files: they test what `npx cdk synth` makes. */
export default async function setup(project: TestProject): Promise<void> {
  project.provide('assembly', await synthesize());
}
