import type { Cloud, Operation, Service } from './kernel.ts';
import type { ResourceHandlers } from './resource.ts';
import { Agents, type InstanceLookup } from './ssm/agents.ts';
import { Commands } from './ssm/commands.ts';
import { Documents } from './ssm/documents.ts';
import { Parameters } from './ssm/parameters.ts';

export type { InstanceLookup, ManagedInstance } from './ssm/agents.ts';
export { type CommandStep, parseSteps } from './ssm/steps.ts';

/** Systems Manager: Parameter Store, command documents, Run Command and the agents that carry it out. */
export class Ssm implements Service {
  readonly name = 'ssm';
  readonly operations: Readonly<Record<string, Operation>>;
  readonly handlers: ResourceHandlers;
  readonly #parameters: Parameters;
  readonly #agents: Agents;

  /** @param instances how Systems Manager sees EC2's instances; asked anew each time */
  constructor(cloud: Cloud, instances: InstanceLookup) {
    this.#parameters = new Parameters(cloud);
    this.#agents = new Agents(cloud, instances);
    const documents = new Documents(cloud);
    const commands = new Commands(cloud, documents, this.#agents, instances);
    this.operations = { ...this.#parameters.operations, ...this.#parameters.tagOperations, ...commands.operations };
    this.handlers = { 'AWS::SSM::Parameter': this.#parameters.handler, 'AWS::SSM::Document': documents.handler };
  }

  /**
   * The current value of a parameter, for templates that resolve one.
   * @throws AwsError ParameterNotFound
   */
  parameterValue(name: string): string {
    return this.#parameters.valueOf(name);
  }

  /** AWS gives one of its public parameters a new value. */
  publishParameter(name: string, value: string): void {
    this.#parameters.publish(name, value);
  }

  /** Fault: the agent of this instance stops answering for good. Its host, and a script that runs on it, go on. */
  agentDead(instanceId: string): void {
    this.#agents.die(instanceId);
  }
}
