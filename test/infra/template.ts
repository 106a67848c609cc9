import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'vitest';
import type { Shape } from '../../drill/cloud/kernel.ts';

const STACKS = ['KeeperData', 'Keeper'] as const;
type StackName = (typeof STACKS)[number];

export interface Resource {
  readonly stack: StackName;
  readonly logicalId: string;
  /** Below the stack, e.g. `launch/Function/Resource`. */
  readonly path: string;
  readonly properties: Shape;
  readonly deletionPolicy: string | undefined;
  readonly updateReplacePolicy: string | undefined;
  /** Where the asset of a function lies, in the assembly. */
  readonly assetPath: string | undefined;
}

/** The text of a synthesized template. */
export function templateText(stack: StackName): string {
  return readFileSync(join(inject('assembly'), `${stack}.template.json`), 'utf8');
}

/** The resources of a type in both templates. @throws Error when there is none, so that no loop is empty by mistake */
export function resourcesOf(type: string): Resource[] {
  const found = STACKS.flatMap((stack) =>
    Object.entries<Shape>(JSON.parse(templateText(stack)).Resources)
      .filter(([, resource]) => resource.Type === type)
      .map(([logicalId, { Properties, DeletionPolicy, UpdateReplacePolicy, Metadata }]) => ({
        stack,
        logicalId,
        path: String(Metadata?.['aws:cdk:path']).split('/').slice(1).join('/'),
        properties: Properties ?? {},
        deletionPolicy: DeletionPolicy,
        updateReplacePolicy: UpdateReplacePolicy,
        assetPath: Metadata?.['aws:asset:path'],
      })),
  );
  if (found.length === 0) throw new Error(`there is no ${type} in the templates`);
  return found;
}

/** A value of the template as text, with `<LogicalId>` or `<LogicalId.Attribute>` for what is known at deployment only. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const {
    Ref,
    'Fn::GetAtt': attribute,
    'Fn::Join': join,
    'Fn::Base64': encoded,
    'Fn::ImportValue': imported,
  } = value as Shape;
  if (Ref !== undefined) return `<${Ref}>`;
  if (attribute !== undefined) return `<${attribute.join('.')}>`;
  if (imported !== undefined) return `<${textOf(imported)}>`;
  if (encoded !== undefined) return textOf(encoded);
  if (join !== undefined) return join[1].map(textOf).join(join[0]);
  throw new Error(`no text: ${JSON.stringify(value)}`);
}

/** What the template has as one value or as a list, e.g. the actions of a statement. */
export function listOf<T>(value: T | readonly T[] | undefined): T[] {
  return value === undefined ? [] : ([value].flat() as T[]);
}
