import type { Happening } from './cloud/kernel.ts';
import type { CommandStep } from './cloud/ssm.ts';

/** A part of a scenario's work, in milliseconds since the epoch. */
export interface Part {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  /** AWS, the operating system or PostgreSQL takes it, whatever Keeper does. @see docs/adr/0008-what-counts-as-floor.md */
  readonly floor: boolean;
}

/** Steps of the scripts on hosts that the operating system, the image or PostgreSQL take. Their names stand in commands/*.sh. */
const FLOOR_STEPS = new Set(['stop-database', 'unmount', 'install-docker', 'pull-image', 'mount', 'start-database']);
/** What commands/prove.sh prints when a check is over. */
const CHECK_TOOK = /^prove: (\S+) took ([\d.]+) s$/;
/** The takeover waits most of its time; that is not a part of anything. */
const IDLE_STEPS = new Set(['wait-for-volume', 'report-armed']);

/** What the work consisted of, read from what happened in the local cloud. */
export function partsOf(happenings: readonly Happening[], volumeId: string): Part[] {
  return [
    ...workflowParts(happenings),
    ...releaseParts(happenings),
    ...growthParts(happenings),
    ...volumeParts(happenings, volumeId),
    ...launchParts(happenings),
    ...hostParts(happenings),
    ...backupParts(happenings),
    ...proofParts(happenings),
  ].sort((a, b) => a.from - b.from || a.to - b.to);
}

/**
 * Milliseconds of the window that floor parts cover; where several overlap, the time counts once.
 *
 * @param window the downtime, in milliseconds since the epoch
 */
export function floorWithin(parts: readonly Part[], window: { readonly from: number; readonly to: number }): number {
  const clipped = parts
    .filter((part) => part.floor)
    .map(({ from, to }) => ({ from: Math.max(from, window.from), to: Math.min(to, window.to) }))
    .filter(({ from, to }) => to > from)
    .sort((a, b) => a.from - b.from);
  let covered = 0;
  let end = window.from;
  for (const { from, to } of clipped) {
    covered += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return covered;
}

/** States of the machines by the names that a person sees in the console. */
const SHOWN_STATES = new Set([
  'Arm a replacement',
  'Checkpoint',
  'Move the volume',
  'Ask the host',
  'Verify',
  'Retire the source',
  'Keep the evidence',
]);

function workflowParts(happenings: readonly Happening[]): Part[] {
  const entered = new Map<string, number>();
  const parts: Part[] = [];
  for (const { kind, subject, at, detail } of happenings) {
    const state = String(detail['state']);
    if (!SHOWN_STATES.has(state)) continue;
    const key = `${subject} ${state}`;
    if (kind === 'state-entered') entered.set(key, at);
    const from = entered.get(key);
    if (from === undefined || (kind !== 'state-exited' && kind !== 'state-failed')) continue;
    entered.delete(key);
    parts.push({ name: state, from, to: at, floor: false });
  }
  return parts;
}

function releaseParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  const last = new Map<string, { phase: string; at: number }>();
  const names: Readonly<Record<string, string>> = { delivered: 'deliver release', reported: 'report release' };
  for (const { kind, subject, at, detail } of happenings) {
    if (kind !== 'command' || !String(detail['document']).endsWith('-release')) continue;
    const phase = String(detail['phase']);
    const name = names[phase];
    const before = last.get(subject);
    if (name && before) parts.push({ name, from: before.at, to: at, floor: true });
    last.set(subject, { phase, at });
    if (phase === 'ended') parts.push(...stepParts(detail['steps']));
  }
  return parts;
}

/** A volume that grows under the running database, and then its file system. */
function growthParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  let modifyingSince: number | undefined;
  for (const { kind, at, detail } of happenings) {
    if (kind === 'volume-modification' && detail['state'] === 'modifying') modifyingSince = at;
    if (kind === 'volume-modification' && detail['state'] === 'optimizing' && modifyingSince !== undefined) {
      parts.push({ name: 'modify the volume', from: modifyingSince, to: at, floor: false });
      modifyingSince = undefined;
    }
    if (kind === 'command' && detail['phase'] === 'ended' && String(detail['document']).endsWith('-grow')) {
      parts.push(...stepParts(detail['steps']));
    }
  }
  return parts;
}

/** The data volume's attachments. A host that ends gives it back by itself. */
function volumeParts(happenings: readonly Happening[], volumeId: string): Part[] {
  const parts: Part[] = [];
  const armedAt = armings(happenings);
  const endingSince = new Map<string, number>();
  let begun: number | undefined;
  let ending: Part | undefined;
  for (const { kind, subject, at, detail } of happenings) {
    const state = String(detail['state']);
    if (kind === 'instance-state' && state === 'shutting-down') endingSince.set(subject, at);
    if (kind !== 'volume-attachment' || subject !== volumeId) continue;
    const host = String(detail['instanceId']);
    if (state === 'attaching' || state === 'detaching') begun = at;
    if (state === 'attaching' && ending) {
      // Until a host is armed nobody waits for the volume, so that much of the termination costs no time.
      const from = Math.max(ending.from, armedAt.get(host) ?? at);
      if (from < ending.to) parts.push({ name: 'await the volume', from, to: ending.to, floor: true });
      ending = undefined;
    }
    if (state === 'detached' && begun === undefined) {
      ending = { name: 'terminate', from: endingSince.get(host) ?? at, to: at, floor: false };
      parts.push(ending);
    }
    if (begun === undefined || (state !== 'attached' && state !== 'detached')) continue;
    parts.push({ name: state === 'attached' ? 'attach' : 'detach', from: begun, to: at, floor: true });
    begun = undefined;
  }
  return parts;
}

/** When each host had done everything that it can do without the volume. */
function armings(happenings: readonly Happening[]): Map<string, number> {
  const armedAt = new Map<string, number>();
  for (const { kind, subject, detail } of happenings) {
    if (kind !== 'takeover') continue;
    const report = stepsOf(detail['steps']).find(({ name }) => name === 'report-armed');
    if (report) armedAt.set(subject, (report.startedAtSeconds + report.seconds) * 1000);
  }
  return armedAt;
}

/** How the hosts that then served came to be: EC2's launch, and the boot until the first line of user data. */
function launchParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  const pending = new Map<string, number>();
  const running = new Map<string, number>();
  const begunAt = new Map<string, number>();
  for (const { kind, subject, at, detail } of happenings) {
    if (kind === 'instance-state' && detail['state'] === 'pending') pending.set(subject, at);
    if (kind === 'instance-state' && detail['state'] === 'running') running.set(subject, at);
    if (kind !== 'takeover') continue;
    const steps = stepParts(detail['steps']);
    begunAt.set(subject, Math.min(...steps.map(({ from }) => from), begunAt.get(subject) ?? at));
    const [launchedAt, runningAt, bootedAt] = [pending.get(subject), running.get(subject), begunAt.get(subject)];
    if (launchedAt === undefined || runningAt === undefined || bootedAt === undefined) continue;
    if (!steps.some(({ name }) => name === 'start-database')) continue;
    parts.push({ name: 'launch', from: launchedAt, to: runningAt, floor: true });
    parts.push({ name: 'boot', from: runningAt, to: bootedAt, floor: true });
    pending.delete(subject);
  }
  return parts;
}

/** The census in the serving database, and the snapshot after it. */
function backupParts(happenings: readonly Happening[]): Part[] {
  const parts: Part[] = [];
  const begun = new Map<string, number>();
  for (const { kind, subject, at, detail } of happenings) {
    const isCensus = kind === 'command' && String(detail['document']).endsWith('-census');
    if (!isCensus && kind !== 'snapshot') continue;
    const from = begun.get(subject);
    if (from === undefined) begun.set(subject, at);
    else if (detail['phase'] === 'ended') parts.push({ name: 'census', from, to: at, floor: false });
    else if (detail['state'] === 'completed') parts.push({ name: 'snapshot', from, to: at, floor: false });
  }
  return parts;
}

/** What prove.sh reports to Step Functions. */
interface ProofReport {
  readonly checks: readonly { readonly name: string; readonly seconds: number }[];
  readonly seconds: number;
}

/** The scratch hosts, of which nothing is floor: the database serves meanwhile. */
function proofParts(happenings: readonly Happening[]): Part[] {
  return happenings.flatMap(({ kind, subject, at, detail }) => {
    if (kind !== 'call' || subject !== 'states:SendTaskSuccess') return [];
    const { output } = detail['input'] as { output: string };
    const report = JSON.parse(output) as Partial<ProofReport>;
    if (!report.checks || report.seconds === undefined) return [];
    const host = String(detail['caller']);
    const began = at - report.seconds * 1000;
    return [...scratchLaunch(happenings, host, began), ...proofSteps(checksOn(host, happenings, report, at), began)];
  });
}

function scratchLaunch(happenings: readonly Happening[], host: string, began: number): Part[] {
  const since = (state: string) =>
    happenings.find(
      ({ kind, subject, detail }) => kind === 'instance-state' && subject === host && detail['state'] === state,
    )?.at;
  const [pending, running] = [since('pending'), since('running')];
  if (pending === undefined || running === undefined) return [];
  return [
    { name: 'launch scratch host', from: pending, to: running, floor: false },
    { name: 'boot scratch host', from: running, to: began, floor: false },
  ];
}

/** One check is over when the script says so. Modelled hosts say nothing, and check one after the other until the end. */
function checksOn(host: string, happenings: readonly Happening[], { checks = [] }: Partial<ProofReport>, end: number) {
  const said = happenings.flatMap(({ kind, subject, at, detail }) => {
    const [, name, seconds] = (kind === 'output' && subject === host && CHECK_TOOK.exec(String(detail['line']))) || [];
    return name === undefined ? [] : [{ name, from: at - Number(seconds) * 1000, to: at }];
  });
  if (said.length > 0) return said;
  let to = end;
  return checks.toReversed().map(({ name, seconds }) => {
    const check = { name, from: to - seconds * 1000, to };
    to = check.from;
    return check;
  });
}

/** The first check is the first that needs the clone; those after the recovery overlap, so they are one step. */
function proofSteps(checks: readonly Omit<Part, 'floor'>[], began: number): Part[] {
  const mounted = checks.find(({ name }) => name === 'mount');
  const recovery = checks.find(({ name }) => name === 'recovery');
  const end = Math.max(...checks.map(({ to }) => to));
  return [
    ...(mounted ? [{ name: 'install-docker, pull-image', from: began, to: mounted.from, floor: false }] : []),
    ...(recovery ? [{ ...recovery, floor: false }] : []),
    ...(recovery && end > recovery.to ? [{ name: 'checks', from: recovery.to, to: end, floor: false }] : []),
  ];
}

function hostParts(happenings: readonly Happening[]): Part[] {
  return happenings.flatMap(({ kind, detail }) => (kind === 'takeover' ? stepParts(detail['steps']) : []));
}

function stepsOf(steps: unknown): readonly CommandStep[] {
  return Array.isArray(steps) ? steps : [];
}

function stepParts(steps: unknown): Part[] {
  return stepsOf(steps)
    .filter(({ name }) => !IDLE_STEPS.has(name))
    .map(({ name, startedAtSeconds, seconds }) => ({
      name,
      from: startedAtSeconds * 1000,
      to: (startedAtSeconds + seconds) * 1000,
      floor: FLOOR_STEPS.has(name),
    }));
}
