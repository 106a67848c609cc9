import { DATABASE_TAG, EXPIRES_AT_TAG, ROLE_TAG, SCRATCH_ROLE } from '../functions/core/tags.ts';
import type { Happening } from './cloud/kernel.ts';
import type { HostRuntime } from './hosts/host.ts';
import type { LocalCloud } from './local-cloud.ts';

type AnyCloud = LocalCloud<HostRuntime>;

/** A promise of Keeper's (docs/promises.md) that did not hold. */
export interface BrokenPromise {
  readonly promise:
    | 'one writer'
    | 'nothing is lost'
    | 'it comes back'
    | 'no orphans'
    | 'only its own'
    | 'loud ends'
    /** Not one of them, but what each of them rests on: no call of Keeper's lacks a permission. */
    | 'nothing is denied';
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly detail: string;
}

/** Watches a local cloud from its beginning, and says at the end which promises were broken. */
export class PromiseWatch {
  readonly #local: AnyCloud;
  readonly #database: string;
  readonly #broken: BrokenPromise[] = [];
  /** When Keeper tried to tell people something, and what. */
  readonly #told: { readonly at: number; readonly text: string }[] = [];
  readonly #failed: { readonly at: number; readonly execution: string }[] = [];

  constructor(local: AnyCloud, database: string) {
    this.#local = local;
    this.#database = database;
    local.cloud.onHappening((happening) => this.#see(happening));
  }

  /** What was broken on the way. */
  get broken(): readonly BrokenPromise[] {
    return this.#broken;
  }

  /** Everything that is neither in use nor gone. To be asked when nothing runs any more. */
  orphans(): string[] {
    const { ec2, states } = this.#local;
    const live = this.liveVolume();
    const hosts = ec2
      .machines()
      .filter(({ state, tags }) => state !== 'terminated' && state !== 'shutting-down' && this.#isOurs(tags))
      .filter(({ identity }) => live?.attachment?.instanceId !== identity.instanceId)
      .map(({ identity, state }) => `${identity.instanceId} (${state}) serves nothing`);
    const volumes = ec2
      .volumes()
      .filter(({ volumeId, tags }) => this.#isOurs(tags) && volumeId !== live?.volumeId && !this.#isKept(tags))
      .filter(({ attachment }) => !this.#isScratch(attachment?.instanceId))
      .map(({ volumeId, state }) => `${volumeId} (${state}) is not the live volume`);
    const snapshots = ec2
      .snapshots()
      .filter(({ tags }) => this.#isOurs(tags) && !this.#isKept(tags))
      .map(({ snapshotId }) => `${snapshotId} is kept without end, or too long`);
    const executions = states.executions
      .filter((execution) => execution.status === 'RUNNING')
      .map((execution) => `${execution.name} is still running`);
    return [...hosts, ...volumes, ...snapshots, ...executions];
  }

  /** Checks what must hold when nothing runs any more; adds to {@link broken}. */
  conclude(): void {
    const { cloud, ec2, ssm } = this.#local;
    const at = cloud.clock.now();
    const live = this.liveVolume();
    const say = (promise: BrokenPromise['promise'], detail: string) => this.#broken.push({ promise, at, detail });
    if (!live)
      say(
        'nothing is lost',
        `the live volume ${ssm.parameterValue(`/keeper/${this.#database}/volume-id`)} does not exist`,
      );
    const holder = live?.attachment?.instanceId;
    const machine = holder === undefined ? undefined : ec2.machine(holder);
    if (live?.attachment?.state !== 'attached' || machine?.state !== 'running') {
      say('it comes back', `no running host holds the volume (${live?.attachment?.state ?? 'free'})`);
    }
    const address = this.#address();
    if (address !== undefined && holder !== undefined && ec2.holderOf(address) !== holder) {
      say('it comes back', `the address is on ${ec2.holderOf(address) ?? 'no host'}, the volume on ${holder}`);
    }
    for (const orphan of this.orphans()) say('no orphans', orphan);
    for (const { execution, at: failedAt } of this.#failed) {
      // The message comes before the end.
      if (!this.wasTold(failedAt - 60_000, 1, execution)) say('loud ends', `${execution} failed, and nobody was told`);
    }
  }

  /** Whether it was at least tried, within these minutes, to tell people something. @param from milliseconds since the epoch */
  wasTold(from: number, minutes: number, text = ''): boolean {
    return this.#told.some((told) => told.at >= from && told.at <= from + minutes * 60_000 && told.text.includes(text));
  }

  /** The volume that the parameter names. */
  liveVolume(): ReturnType<AnyCloud['ec2']['volumes']>[number] | undefined {
    const id = this.#local.ssm.parameterValue(`/keeper/${this.#database}/volume-id`);
    return this.#local.ec2.volumes().find(({ volumeId }) => volumeId === id);
  }

  /** The floating address: the one that was ever moved. */
  #address(): string | undefined {
    return this.#local.cloud.happenings.findLast(
      ({ kind, detail }) => kind === 'address' && detail['state'] === 'assigned',
    )?.subject;
  }

  #see({ kind, subject, at, detail }: Happening): void {
    const say = (promise: BrokenPromise['promise'], text: string) => this.#broken.push({ promise, at, detail: text });
    if (kind === 'broken-promise') say('one writer', `${subject}: ${detail['what']}`);
    if (kind === 'force-detach') say('one writer', `${subject} was force-detached from ${detail['instanceId']}`);
    // An alarm watches that queue. @see infra/keeper-stack.ts
    if (kind === 'queued') this.#told.push({ at, text: 'undelivered' });
    if (kind === 'volume-deleted' && this.#isData(subject)) say('nothing is lost', `${subject} was deleted`);
    if (kind === 'address' && detail['state'] === 'assigned') {
      const holder = this.liveVolume()?.attachment?.instanceId;
      if (holder !== detail['instanceId']) {
        say(
          'one writer',
          `the address ${subject} went to ${detail['instanceId']} while ${holder ?? 'nobody'} held the volume`,
        );
      }
    }
    // What a person does at the console is that person's business.
    if (kind === 'call' && detail['caller'] !== this.#local.iam.administrator.session)
      this.#seeCall(subject, detail['input'], at);
    if (kind === 'execution' && subject.startsWith(`${this.#database}-`)) {
      if (detail['status'] === 'succeeded') this.#seeSuccess(subject, at);
      if (detail['status'] === 'failed') this.#failed.push({ at, execution: subject });
    }
  }

  /** Calls that change an instance or a volume may only name our own. */
  #seeCall(call: string, input: unknown, at: number): void {
    const [service, operation = ''] = call.split(':');
    if (call === 'sns:Publish') this.#told.push({ at, text: JSON.stringify(input) });
    if (service !== 'ec2' || operation.startsWith('Describe') || operation === 'CreateFleet') return;
    for (const [id] of JSON.stringify(input ?? {}).matchAll(/\b(i|vol)-[0-9a-f]{17}\b/g)) {
      const tags =
        this.#local.ec2.machine(id)?.tags ?? this.#local.ec2.volumes().find(({ volumeId }) => volumeId === id)?.tags;
      if (tags && tags.get(DATABASE_TAG) !== this.#database) {
        this.#broken.push({
          promise: 'only its own',
          at,
          detail: `${operation} on ${id}, which is not tagged ${DATABASE_TAG}=${this.#database}`,
        });
      }
    }
  }

  /** A relocation that says that it has moved the database must leave a host that has the volume. */
  #seeSuccess(execution: string, at: number): void {
    const output = this.#local.states.executions.find(({ name }) => name === execution)?.output;
    const { outcome, to } = JSON.parse(output ?? '{}');
    // A host that has ended since it was verified is the beginning of another story.
    if (outcome !== 'relocated' || this.#local.ec2.machine(to)?.state !== 'running') return;
    if (this.liveVolume()?.attachment?.state !== 'attached') {
      this.#broken.push({
        promise: 'loud ends',
        at,
        detail: `${execution} says relocated, and no host has the volume`,
      });
    }
  }

  /** Root volumes go with their hosts; the others hold a database. */
  #isData(volumeId: string): boolean {
    const volume = this.#local.ec2.volumes().find((each) => each.volumeId === volumeId);
    return volume === undefined || volume.tags.get(ROLE_TAG) === 'data';
  }

  /** What bears a date is kept until then, and perhaps a minute longer. */
  #isKept(tags: ReadonlyMap<string, string>): boolean {
    return Date.parse(tags.get(EXPIRES_AT_TAG) ?? '') > this.#local.cloud.clock.now() - 60_000;
  }

  /** A scratch host has a clone of its own, which is somebody's for as long as the host lives. */
  #isScratch(instanceId: string | undefined): boolean {
    const machine = instanceId === undefined ? undefined : this.#local.ec2.machine(instanceId);
    return machine?.tags.get(DATABASE_TAG) === this.#database && machine.tags.get(ROLE_TAG) === SCRATCH_ROLE;
  }

  #isOurs(tags: ReadonlyMap<string, string>): boolean {
    return tags.get(DATABASE_TAG) === this.#database && tags.has(ROLE_TAG);
  }
}
