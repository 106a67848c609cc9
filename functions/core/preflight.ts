import type { HostSpec } from './host-spec.ts';
import { imageProblem, postgresMajor, timescaleVersion, whyPatchFirst } from './image.ts';
import { parseInstant } from './instant.ts';
import { namesDatabase } from './names.ts';
import { type DatabaseState, type HostState, servingHost } from './state.ts';

export type Runbook = 'scale-up' | 'patch';

/** What EC2 tells of an instance type. */
export interface InstanceTypeFacts {
  /** e.g. `arm64`; of a type that can do two, `i386/x86_64` */
  readonly architecture: string;
  readonly memoryMiB: number;
  /** Whether it can be had in the database's zone, capacity permitting. */
  readonly offered: boolean;
}

/** The newest modification of the data volume. */
export interface VolumeModification {
  /** `modifying`, `optimizing`, `completed` or `failed` */
  readonly state: string;
  /** Percent. */
  readonly progress: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
}

/** An execution of one of Keeper's state machines. */
export interface RunningExecution {
  /** The name of the state machine, e.g. `keeper-relocate`. */
  readonly machine: string;
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
}

/** Everything that a preflight rests on besides the request. */
export interface PreflightFacts {
  readonly database: string;
  /** The availability zone of the data volume, e.g. `us-east-1a`. */
  readonly zone: string;
  readonly state: DatabaseState;
  /** Absent when the volume was never modified. */
  readonly modification?: VolumeModification;
  /** The wanted and the configured types, as far as EC2 has them in the region. */
  readonly types: ReadonlyMap<string, InstanceTypeFacts>;
  /** What hosts are made of now. */
  readonly recorded: HostSpec;
  /** The instance types of keeper.config.ts. */
  readonly configuredTypes: readonly string[];
  /** The newest Amazon Linux 2023 for ARM. */
  readonly newestAmi: string;
  /** What is running in Keeper's state machines, this execution included or not. */
  readonly running: readonly RunningExecution[];
  /** The execution that asks. */
  readonly own: RunningExecution;
}

/** What a runbook does, once nothing speaks against it. */
export interface ChangePlan {
  /** The size of the file system, and of the volume where that has it not yet. */
  readonly growToGiB?: number;
  /** Present exactly when the volume itself is to be modified: the new value of its tag `keeper:modified-at`. */
  readonly modifiedAt?: string;
  /** What the hosts that the move launches are made of; absent when the database need not move. */
  readonly host?: Partial<HostSpec>;
  /** With {@link host}: what is to be recorded once such a host has proven itself. */
  readonly record?: Partial<HostSpec>;
  /** Whether the snapshot must be complete before anything is changed. */
  readonly waitForSnapshot: boolean;
  /** Whether `ALTER EXTENSION timescaledb UPDATE` follows the move. */
  readonly updateExtension: boolean;
  /** One line for people. */
  readonly summary: string;
}

export type Preflight = { readonly refusals: readonly string[] } | { readonly plan: ChangePlan };

/** What a person has asked for, as far as it is well-formed. */
interface Request {
  readonly instanceType?: string;
  readonly volumeGiB?: number;
  readonly ami?: string;
  readonly image?: string;
  readonly updateExtension?: boolean;
}

const FIELDS = {
  'scale-up': ['instanceType', 'volumeGiB'],
  patch: ['ami', 'image', 'updateExtension'],
} as const satisfies Record<Runbook, readonly (keyof Request)[]>;

/** gp3. @see docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html, Size */
const MOST_GIB = 65_536;

/**
 * The least memory of a host, in MiB: a quarter of it for shared_buffers and a sixteenth for maintenance_work_mem, 4.1 MiB
 * for each of 50 sessions (measured, after touching a hypertable), and an allowance of 200 MiB for Amazon Linux, Docker and
 * the agent of Systems Manager. From 1,500 MiB on takeover.sh allows 100 sessions, which need 888 MiB by the same sum.
 */
const LEAST_MEMORY_MIB = Math.ceil((50 * 4.1 + 200) / (1 - 1 / 4 - 1 / 16));

/** docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVolume.html: four in a rolling day, one after the other. */
const MOST_MODIFICATIONS = 4;
const DAY_MS = 86_400_000;
/** A modification that EC2 tells of is the one that Keeper recorded when it began no longer than this after the record. */
const RECORDED_WITHIN_MS = 600_000;

/**
 * Decides, before anything is changed, whether a runbook can do what it is asked for. Pure.
 *
 * @param request what a person typed, unchecked; `database` in it was read before
 * @param now milliseconds since the epoch
 * @returns the plan, or every reason against it: each says what is wrong and what to do
 */
export function preflight(runbook: Runbook, request: unknown, facts: PreflightFacts, now: number): Preflight {
  const { asked, refusals } = readRequest(runbook, request);
  refusals.push(
    ...(runbook === 'scale-up' ? refuseScaleUp(asked, facts, now) : refusePatch(asked, facts)),
    ...refuseTrouble(facts),
    ...refuseCompany(facts),
  );
  const host = servingHost(facts.state);
  // Without a host there is at least the refusal that says so.
  if (refusals.length > 0 || !host) return { refusals };
  const plan = runbook === 'scale-up' ? planScaleUp(asked, host, facts, now) : planPatch(asked, host, facts);
  if (!plan.growToGiB && !plan.host && !plan.updateExtension) return { refusals: [nothingToDo(runbook, host, facts)] };
  return { plan };
}

function readRequest(runbook: Runbook, request: unknown): { asked: Request; refusals: string[] } {
  const fields: readonly string[] = FIELDS[runbook];
  if (typeof request !== 'object' || request === null || Array.isArray(request))
    return { asked: {}, refusals: [`the input is no object; write for example ${exampleOf(runbook)}`] };
  const given = Object.entries(request).filter(([field]) => field !== 'database');
  const refusals: string[] = [];
  const asked: Record<string, unknown> = {};
  for (const [field, value] of given) {
    const problem = fields.includes(field)
      ? malformed(field as keyof Request, value)
      : `is no field of ${runbook}; write ${fields.slice(0, -1).join(', ')} or ${fields.at(-1)}`;
    if (problem) refusals.push(`${field}: ${problem}`);
    else asked[field] = value;
  }
  if (runbook === 'scale-up' && !given.some(([field]) => fields.includes(field)))
    refusals.push(`neither instanceType nor volumeGiB is given; write for example ${exampleOf(runbook)}`);
  return { asked, refusals };
}

function exampleOf(runbook: Runbook): string {
  return runbook === 'scale-up'
    ? '{ "instanceType": "t4g.medium", "volumeGiB": 100 }'
    : '{ "image": "timescale/timescaledb:2.19.3-pg16" }';
}

/** Why the value can be none of the field's, or undefined. */
function malformed(field: keyof Request, value: unknown): string | undefined {
  const shown = JSON.stringify(value);
  switch (field) {
    case 'instanceType':
      return typeof value === 'string' ? undefined : `${shown} is no instance type; write for example t4g.medium`;
    case 'volumeGiB':
      return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MOST_GIB
        ? undefined
        : `${shown} is not a whole number from 1 to ${MOST_GIB}; write for example 100`;
    case 'ami':
      return typeof value === 'string' && /^ami-([0-9a-f]{8}|[0-9a-f]{17})$/.test(value)
        ? undefined
        : `${shown} is no AMI; write for example ami-0123456789abcdef0, or leave it out for the newest Amazon Linux 2023`;
    case 'image':
      return imageProblem(typeof value === 'string' ? value : shown);
    case 'updateExtension':
      return typeof value === 'boolean' ? undefined : `${shown} is neither true nor false; write for example true`;
  }
}

function* refuseScaleUp(
  { instanceType, volumeGiB }: Request,
  facts: PreflightFacts,
  now: number,
): Generator<string, void> {
  if (instanceType !== undefined) {
    const problem = whyNotType(instanceType, facts);
    if (problem) yield `instanceType: ${problem}`;
    const host = servingHost(facts.state);
    if (host && mustMove(instanceType, host, facts)) {
      const first = whyPatchFirst(facts.database, facts.recorded.image, host);
      if (first) yield first;
    }
  }
  const { volume } = facts.state;
  if (volumeGiB === undefined || volumeGiB === volume.sizeGiB) return;
  if (volumeGiB < volume.sizeGiB) {
    yield `volumeGiB: the volume of ${facts.database} has ${volume.sizeGiB} GiB and cannot shrink to ${volumeGiB}; write a larger size or leave it out`;
    return;
  }
  const { modification } = facts;
  if (modification?.state === 'modifying' || modification?.state === 'optimizing')
    yield `volumeGiB: the last modification of ${volume.id} is still ${modification.state} (${modification.progress} %), and EC2 takes the next one only after it; try again when it has completed`;
  const next = nextModification(facts, now);
  if (next > now)
    yield `volumeGiB: ${volume.id} was modified four times within 24 hours, and EC2 allows no more; try again after ${iso(next)}`;
}

/** Whether a database that is to have a type has to move: it has it only when its next host will have it, too. */
function mustMove(instanceType: string, host: HostState, { recorded }: PreflightFacts): boolean {
  return instanceType !== host.instanceType || instanceType !== recorded.instanceTypes[0];
}

function whyNotType(wanted: string, { types, zone, database }: PreflightFacts): string | undefined {
  const type = types.get(wanted);
  if (!type) return `EC2 has no type ${JSON.stringify(wanted)} in ${zone.slice(0, -1)}; write for example t4g.medium`;
  if (type.architecture !== 'arm64')
    return `${wanted} is ${type.architecture}, and ${database} runs on ARM (arm64); write for example t4g.medium`;
  if (wanted.startsWith('a1.'))
    return `${wanted} is the first Graviton, which is too old for Amazon Linux 2023; write for example t4g.medium`;
  if (type.memoryMiB < LEAST_MEMORY_MIB)
    return `${wanted} has ${type.memoryMiB} MiB of memory, and the settings of PostgreSQL need ${LEAST_MEMORY_MIB}; write t4g.micro or a larger one`;
  if (!type.offered)
    return `${wanted} is not offered in ${zone}, where the volume of ${database} is; write one that \`aws ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=location,Values=${zone}\` names`;
  return undefined;
}

function* refusePatch(asked: Request, facts: PreflightFacts): Generator<string, void> {
  const { database, state, recorded } = facts;
  const { image } = nextHost(asked, facts) ?? {};
  if (image === undefined) return;
  const present = servingHost(state)?.image ?? recorded.image;
  const [major, presentMajor] = [postgresMajor(image), postgresMajor(present)];
  if (major !== undefined && presentMajor !== undefined && major !== presentMajor)
    yield `image: ${image} is PostgreSQL ${major}, and the data of ${database} are of PostgreSQL ${presentMajor}: another major version needs pg_upgrade, which Keeper does not do; write an image of PostgreSQL ${presentMajor}`;
  const [version, presentVersion] = [timescaleVersion(image), timescaleVersion(present)];
  if (version && presentVersion && isOlder(version, presentVersion))
    yield `image: ${image} has TimescaleDB ${version.join('.')}, and ${database} has had ${presentVersion.join('.')}: an older one cannot open its data; write ${presentVersion.join('.')} or a later one`;
}

/**
 * What a patch makes the next host of; undefined when the extension alone is updated, where it is. One thing at a time: with
 * another image, or another version of the extension, nobody wants another operating system, too, unless they say so.
 */
function nextHost(
  { ami, image, updateExtension = false }: Request,
  { recorded, newestAmi }: PreflightFacts,
): { readonly ami?: string; readonly image: string } | undefined {
  if (ami === undefined && image === undefined && updateExtension) return undefined;
  const wantedAmi = ami ?? (image === undefined ? newestAmi : undefined);
  return { image: image ?? recorded.image, ...(wantedAmi !== undefined && { ami: wantedAmi }) };
}

function isOlder(version: readonly number[], other: readonly number[]): boolean {
  const different = other.findIndex((part, index) => part !== (version[index] ?? 0));
  return different >= 0 && (version[different] ?? 0) < (other[different] ?? 0);
}

/** A change begins on sound ground, or not at all. */
function* refuseTrouble({ database, state }: PreflightFacts): Generator<string, void> {
  const host = servingHost(state);
  if (!host) {
    yield `no host serves ${database} at the moment; try again when Keeper has brought it back`;
    return;
  }
  if (host.interruptedAt !== undefined)
    yield `AWS takes ${host.id}, which serves ${database}; try again when Keeper has moved it`;
  if (host.impaired)
    yield `${host.id}, which serves ${database}, fails EC2's status checks; try again when Keeper has moved it`;
  if (!host.verified)
    yield `${host.id} has the volume of ${database}, and nobody has seen it serve yet; try again in a few minutes`;
}

/** Relocations go first. Of two runbooks the one that started earlier goes on, so that exactly one does. */
function* refuseCompany({ database, running, own }: PreflightFacts): Generator<string, void> {
  const isOwn = ({ machine, name }: RunningExecution) => machine === own.machine && name === own.name;
  // As the other one sees it, too.
  const self = running.find(isOwn) ?? own;
  for (const each of running) {
    const named = namesDatabase(each.name);
    if (isOwn(each) || (named !== undefined && named !== database)) continue;
    // A person's own name, or one that Step Functions made up, may be of any database.
    const unclear = named === undefined ? ', for a database that its name does not tell' : '';
    if (each.machine.endsWith('-relocate') || isEarlier(each, self))
      yield `${each.machine} is running (${each.name}${unclear}); try again when it has ended`;
  }
}

function isEarlier(a: RunningExecution, b: RunningExecution): boolean {
  if (a.startedAt !== b.startedAt) return a.startedAt < b.startedAt;
  return a.name === b.name ? a.machine < b.machine : a.name < b.name;
}

function planScaleUp(
  { instanceType, volumeGiB }: Request,
  host: HostState,
  facts: PreflightFacts,
  now: number,
): ChangePlan {
  const { state, database } = facts;
  const { sizeGiB } = state.volume;
  const changes: string[] = [];
  let move: Pick<ChangePlan, 'host' | 'record'> = {};
  let grow: Pick<ChangePlan, 'growToGiB' | 'modifiedAt'> = {};
  if (instanceType !== undefined && mustMove(instanceType, host, facts)) {
    changes.push(`from ${host.instanceType} to ${instanceType}`);
    // The wanted type has to prove itself, not one that could stand in for it.
    move = {
      host: { instanceTypes: [instanceType] },
      record: { instanceTypes: [instanceType, ...standIns(instanceType, facts)] },
    };
  }
  if (volumeGiB !== undefined && volumeGiB > sizeGiB) {
    changes.push(`from ${sizeGiB} to ${volumeGiB} GiB`);
    const modifiedAt = [...modifications(facts), now].slice(-MOST_MODIFICATIONS).map(iso).join(' ');
    grow = { growToGiB: volumeGiB, modifiedAt };
  } else if (volumeGiB !== undefined) {
    // The volume may be all that an earlier attempt has grown.
    changes.push(`the file system to ${volumeGiB} GiB`);
    grow = { growToGiB: volumeGiB };
  }
  const summary = `${database}: ${changes.join(', ')}`;
  return { ...grow, ...move, waitForSnapshot: false, updateExtension: false, summary };
}

/** The configured types that do as well when Spot or the zone has nothing of the wanted one. */
function standIns(wanted: string, { types, configuredTypes }: PreflightFacts): string[] {
  const { architecture, memoryMiB = 0 } = types.get(wanted) ?? {};
  const others = configuredTypes.filter((name) => {
    const type = types.get(name);
    return name !== wanted && type?.offered && type.architecture === architecture && type.memoryMiB >= memoryMiB;
  });
  return [...new Set(others)];
}

function planPatch(asked: Request, host: HostState, facts: PreflightFacts): ChangePlan {
  const { database, recorded } = facts;
  const { updateExtension = false } = asked;
  const { ami, image } = nextHost(asked, facts) ?? {};
  const present = host.image ?? recorded.image;
  const newAmi = ami !== undefined && ami !== host.imageId;
  const newImage = image !== undefined && image !== present;
  const changes = [
    ...(newAmi ? [`from ${host.imageId} to ${ami}`] : []),
    ...(newImage ? [`from ${present} to ${image}`] : []),
  ];
  const other = image !== undefined && (newImage || image !== recorded.image);
  const spec = { ...(ami !== undefined && { ami }), ...(other && { image }) };
  return {
    ...(changes.length > 0 && { host: spec, record: spec }),
    // Other programs write into the data from then on: the snapshot is the way back.
    waitForSnapshot: newImage || updateExtension,
    updateExtension,
    summary: `${database}: ${[...changes, ...(updateExtension ? ['ALTER EXTENSION timescaledb UPDATE'] : [])].join(', ')}`,
  };
}

function nothingToDo(runbook: Runbook, host: HostState, { database, state, recorded }: PreflightFacts): string {
  return runbook === 'scale-up'
    ? `nothing would change: ${database} is on ${host.instanceType} with ${state.volume.sizeGiB} GiB; write another instanceType or a larger volumeGiB`
    : `nothing would change: ${database} is on ${host.imageId} with ${host.image ?? recorded.image}; write another image, or { "updateExtension": true } to update the extension alone`;
}

/** When the volume was modified, as far as it matters, oldest first. */
function modifications({ state, modification }: PreflightFacts): number[] {
  const recorded = (state.volume.modifiedAt ?? '')
    .split(' ')
    .map(parseInstant)
    .filter((at) => at !== undefined);
  if (!modification) return recorded;
  // A person may have modified it without Keeper.
  const { startedAt } = modification;
  const known = recorded.some((at) => startedAt >= at && startedAt - at < RECORDED_WITHIN_MS);
  return known ? recorded : [...recorded, startedAt].sort((a, b) => a - b);
}

/** When EC2 takes the next modification, in milliseconds since the epoch; in the past when it takes one now. */
function nextModification(facts: PreflightFacts, now: number): number {
  const recent = modifications(facts).filter((at) => now - at < DAY_MS);
  const first = recent.at(-MOST_MODIFICATIONS);
  return first === undefined ? 0 : first + DAY_MS;
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}
