import { AwsError, NotModelled, onlyKnown, type Shape } from '../kernel.ts';
import { incorrectState, invalidParameter } from './errors.ts';
import type { Modification, Volume, VolumeAttributes } from './records.ts';
import { render } from './render.ts';
import type { Ec2State } from './state.ts';

/** docs: ModifyVolume, "up to four times within a rolling 24-hour period" */
const MODIFICATIONS = 4;
const WINDOW_MS = 24 * 3_600_000;

// docs: ModifyVolume, the values that gp3 can have
const MAX_GIB = 65_536;
const IOPS = { name: 'iops', least: 3000, most: 80_000 };
const THROUGHPUT = { name: 'throughput', least: 125, most: 2000 };

/** How often the progress of an optimization is shown anew: at every quarter. */
const PROGRESS_STEP = 25;

/** Elastic Volumes: volumes that change while they are in use. */
export class Modifications {
  #state: Ec2State;

  constructor(state: Ec2State) {
    this.#state = state;
  }

  /**
   * ModifyVolume. The new size can be used when `optimizing` begins; the volume can be modified again when the
   * modification is `completed`. A request that changes nothing is a modification like any other.
   * @throws AwsError as ModifyVolume does
   */
  modify(volume: Volume, input: Shape): Shape {
    onlyKnown('ModifyVolume', input, ['VolumeId', 'Size', 'VolumeType', 'Iops', 'Throughput']);
    if (input.VolumeType !== undefined && input.VolumeType !== volume.type)
      throw new NotModelled(`ModifyVolume: a change from ${volume.type} to ${input.VolumeType}`);
    if ([input.Size, input.Iops, input.Throughput, input.VolumeType].every((value) => value === undefined))
      throw new NotModelled('ModifyVolume without anything to modify');
    if (volume.attachment?.root) throw new NotModelled('modifications of root volumes');
    const original: VolumeAttributes = {
      sizeGiB: volume.sizeGiB,
      iops: volume.iops,
      throughput: volume.throughput,
    };
    const target: VolumeAttributes = {
      sizeGiB: input.Size ?? original.sizeGiB,
      iops: input.Iops ?? original.iops,
      throughput: input.Throughput ?? original.throughput,
    };
    if (target.sizeGiB < original.sizeGiB) throw invalidParameter('New size cannot be smaller than existing size');
    if (target.sizeGiB > MAX_GIB)
      throw invalidParameter(
        `Volume of ${target.sizeGiB}GiB is too large for volume type ${volume.type}; maximum is ${MAX_GIB}GiB`,
      );
    refuseOutside(IOPS, input.Iops);
    refuseOutside(THROUGHPUT, input.Throughput);
    this.#refuseNow(volume);
    const modification: Modification = {
      volumeId: volume.id,
      original,
      target,
      startTime: this.#state.date(),
      state: 'modifying',
      progress: 0,
      endTime: undefined,
    };
    volume.modifications.push(modification);
    this.#changed(volume, modification);
    this.#state.background(this.#carryOut(volume, modification));
    return { VolumeModification: render.modification(modification) };
  }

  #refuseNow(volume: Volume): void {
    if (volume.state !== 'available' && volume.state !== 'in-use')
      throw incorrectState(`Volume '${volume.id}' is in the '${volume.state}' state.`);
    const latest = volume.modifications.at(-1);
    if (latest && latest.state !== 'completed')
      throw new AwsError(
        'IncorrectModificationState',
        `Volume ${volume.id} cannot be modified in modification state ${latest.state.toUpperCase()}`,
      );
    const since = this.#state.now() - WINDOW_MS;
    if (volume.modifications.filter(({ startTime }) => startTime.getTime() > since).length >= MODIFICATIONS)
      throw new AwsError(
        'VolumeModificationRateExceeded',
        "You've reached the maximum modification rate per volume limit.",
      );
  }

  async #carryOut(volume: Volume, modification: Modification): Promise<void> {
    const { cloud, runtime } = this.#state;
    const { sizeGiB, iops, throughput } = modification.target;
    await cloud.clock.sleep(cloud.latency('ec2.volumeModifying', volume.id));
    if (isGone(volume)) return;
    if (sizeGiB > volume.sizeGiB) await runtime.resizeVolume(volume.id, sizeGiB);
    Object.assign(volume, { sizeGiB, iops, throughput });
    this.#state.publishVolume(volume);
    modification.state = 'optimizing';
    const step = (cloud.latency('ec2.volumeOptimizing', volume.id) * PROGRESS_STEP) / 100;
    for (; modification.progress < 100; modification.progress += PROGRESS_STEP) {
      this.#changed(volume, modification);
      await cloud.clock.sleep(step);
      if (isGone(volume)) return;
    }
    modification.state = 'completed';
    modification.endTime = this.#state.date();
    this.#changed(volume, modification);
  }

  #changed(volume: Volume, modification: Modification): void {
    const { state, progress, target } = modification;
    this.#state.cloud.record('volume-modification', volume.id, { state, progress, sizeGiB: target.sizeGiB });
    this.#state.publishModification(volume, modification);
  }
}

const isGone = ({ state }: Volume): boolean => state === 'deleting' || state === 'deleted';

function refuseOutside({ name, least, most }: typeof IOPS, value: number | undefined): void {
  if (value === undefined) return;
  if (value < least) throw invalidParameter(`Volume ${name} of ${value} is too low; minimum is ${least}.`);
  if (value > most) throw invalidParameter(`Volume ${name} of ${value} is too high; maximum is ${most}.`);
}
