import type { Shape } from './kernel.ts';

/** What the deployer tells a handler about the stack it works for. */
export interface StackContext {
  readonly stackName: string;
  /** A deterministic physical name, `<stack>-<logicalId>`, for resources whose template leaves the name out. */
  physicalName(logicalId: string): string;
  /** Absolute path of the synthesized asset whose object key the resource names, where it names one. */
  readonly assetPath: string | undefined;
}

/** How the local cloud makes one CloudFormation resource type. */
export interface ResourceHandler {
  /**
   * @param properties with all intrinsics resolved
   * @returns what `Ref` and `Fn::GetAtt` give
   * @throws NotModelled for a property that the model does not honour
   */
  create(logicalId: string, properties: Shape, stack: StackContext): Promise<CreatedResource> | CreatedResource;
  /** An update in place; without it a changed property is an error. */
  update?(created: CreatedResource, properties: Shape, previous: Shape, stack: StackContext): Promise<void> | void;
  delete(created: CreatedResource): Promise<void> | void;
}

export interface CreatedResource {
  readonly ref: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** By CloudFormation type, e.g. `AWS::EC2::Volume`. Each service brings its own. */
export type ResourceHandlers = Readonly<Record<string, ResourceHandler>>;
