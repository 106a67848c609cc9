import type { Random } from './random.ts';

/** How long AWS takes for something, as a log-normal distribution, and where the figures come from. */
export interface Latency {
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly source: string;
}

/**
 * What AWS itself takes, as data. "inferred" marks a figure for which no measurement was found: it is the middle of
 * what the cited text allows. Nothing here is Keeper's own time.
 */
export const LATENCIES = {
  /** Any API request that is not listed by itself. */
  api: { medianMs: 60, p99Ms: 250, source: 'inferred: in-region request round trip; Lambda to EC2 API' },
  'ec2.CreateFleet': {
    medianMs: 1500,
    p99Ms: 4000,
    source: 'RunInstances call ~1.5 s: daemonology.net/blog/2021-08-12-EC2-boot-time-benchmarking.html',
  },
  'ec2.pendingToRunning': { medianMs: 4900, p99Ms: 9000, source: 'same: pending→running 4.9 s' },
  /** From `running` to the first line of user data. */
  'ec2.runningToUserData': {
    medianMs: 9000,
    p99Ms: 16000,
    source:
      'RunInstances→SSH on AL2023 22–26 s (brevdev/ec2-coldboot-research), less the API call and pending→running, user data runs last',
  },
  'ec2.attach': {
    medianMs: 2000,
    p99Ms: 4000,
    source: '"most finish within 1–4 s": kubernetes-sigs/aws-ebs-csi-driver pkg/cloud/cloud.go',
  },
  'ec2.detach': { medianMs: 2000, p99Ms: 4000, source: 'same' },
  'ec2.createVolume': { medianMs: 1500, p99Ms: 4000, source: 'same file: median ~1.5 s, p99 ~4 s' },
  'ec2.snapshot': {
    medianMs: 60000,
    p99Ms: 1200000,
    source: 'inferred for incremental ones; full first snapshot of 50 GB 16–20 min: pingcap/docs-tidb-operator',
  },
  /** ModifyVolume → the new size can be used. */
  'ec2.volumeModifying': {
    medianMs: 5000,
    p99Ms: 30000,
    source:
      '"usually takes a few seconds": ebs/latest/userguide/monitoring-volume-modifications.html; figures inferred',
  },
  /** From there until the modification is completed, and the volume can be modified again. */
  'ec2.volumeOptimizing': {
    medianMs: 600_000,
    p99Ms: 21_600_000,
    source: '"minutes to hours", a fully used 1 TiB volume about 6 hours: same page; median inferred',
  },
  'ec2.assignPrivateIp': {
    medianMs: 700,
    p99Ms: 2000,
    source: 'inferred: the remapping is asynchronous (API reference), no measurement found',
  },
  /** Describe calls see a change this much later. */
  'ec2.describeLag': {
    medianMs: 150,
    p99Ms: 1000,
    source: 'inferred: eventual consistency (ec2/latest/devguide/eventual-consistency.html)',
  },
  /** `running` → the status checks say so. */
  'ec2.firstStatusCheck': {
    medianMs: 150_000,
    p99Ms: 300_000,
    source: 'inferred: 2/2 checks passed a few minutes after launch; no measurement found',
  },
  /** A guest stops answering → the status checks are impaired. */
  'ec2.statusCheck': {
    medianMs: 120_000,
    p99Ms: 240_000,
    source:
      '"performed every minute": AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html; that two have to fail is inferred',
  },
  'ec2.stop': { medianMs: 30000, p99Ms: 60000, source: 'as ec2.terminate: 15–60 s typical, no clean measurement' },
  'ec2.terminate': { medianMs: 30000, p99Ms: 60000, source: 'no clean measurement; 15–60 s typical: facts table B' },
  /** Stopping or terminating an instance with SkipOsShutdown, or one that is stopped. */
  'ec2.terminateSkipOsShutdown': {
    medianMs: 8000,
    p99Ms: 20000,
    source: 'inferred: SkipOsShutdown leaves out the operating system shutdown',
  },
  /** Stopping or terminating an instance whose guest no longer answers, without SkipOsShutdown. */
  'ec2.terminateUnresponsive': {
    medianMs: 180000,
    p99Ms: 300000,
    source: 'inferred: hard shutdown "after a few minutes" (ec2/latest/userguide/how-ec2-instance-stop-start-works)',
  },
  /** Registration of the agent of a fresh host, from `running`. */
  'ssm.agentOnline': {
    medianMs: 35000,
    p99Ms: 120_000,
    source: '"30 s to several minutes": DataDog/stratus-red-team#108; >120 s 1–2×/day: CIROH-UA/ngen-datastream#361',
  },
  /** SendCommand accepted → script starts. */
  'ssm.deliver': {
    medianMs: 700,
    p99Ms: 3000,
    source: 'SendCommand→Success of a trivial command ≤5 s: stratus-red-team#108; split inferred',
  },
  /** Script ended → the invocation says so. */
  'ssm.report': { medianMs: 500, p99Ms: 2000, source: 'same' },
  /** SendCommand answered → GetCommandInvocation and ListCommandInvocations know the invocation. */
  'ssm.invocationLag': {
    medianMs: 300,
    p99Ms: 2000,
    source: 'inferred: InvocationDoesNotExist right after SendCommand: aws/aws-sdk#86',
  },
  'events.deliver': { medianMs: 50, p99Ms: 129, source: 'EventBridge rule→target p99 ≈129 ms (Aug 2024), unverified' },
  'lambda.coldStart': {
    medianMs: 375,
    p99Ms: 700,
    source: '3 SDK v3 clients, bundled: speedrun.nobackspacecrew.com/blog/2025/07/21',
  },
  'lambda.warmInvoke': { medianMs: 15, p99Ms: 60, source: 'inferred' },
  'states.transition': { medianMs: 80, p99Ms: 200, source: 'Standard 50–200 ms per state, unverified' },
  'states.expressTransition': {
    medianMs: 5,
    p99Ms: 30,
    source: 'inferred: Express executions live in memory, their steps are not persisted one by one',
  },
  /** Pull of the pinned image on a fresh host. */
  'host.pullImage': {
    medianMs: 9000,
    p99Ms: 20000,
    source: "inferred: ~150 MB compressed at a burstable host's network and disk",
  },
  'host.installDocker': { medianMs: 7000, p99Ms: 12000, source: 'inferred: dnf install docker on AL2023' },
} as const satisfies Record<string, Latency>;

export type LatencyName = keyof typeof LATENCIES;

/** A sample in milliseconds. */
export function sampleLatency(name: LatencyName, random: Random): number {
  const { medianMs, p99Ms } = LATENCIES[name];
  return random.logNormal(medianMs, p99Ms);
}
