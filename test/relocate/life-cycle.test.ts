import { describe, expect, inject, it } from 'vitest';
import { Simulation } from '../../drill/simulation.ts';

function start(): Promise<Simulation> {
  return Simulation.start({ assembly: inject('assembly'), database: 'lighthouse', seed: 1 });
}

function aliveHosts({ local }: Simulation): string[] {
  return local.ec2
    .machines()
    .filter(({ state }) => state !== 'terminated')
    .map(({ identity }) => identity.instanceId);
}

describe('deleting the keeper stack', () => {
  it('removes the hosts and leaves the volume, the database on it and the password', async () => {
    const simulation = await start();
    const volumeId = simulation.watch.liveVolume()?.volumeId ?? '';
    await simulation.clock.run(simulation.local.formation.destroy('Keeper'));

    expect(aliveHosts(simulation)).toEqual([]);
    expect(simulation.watch.liveVolume()).toMatchObject({ volumeId, state: 'available' });
    expect(simulation.local.hosts.volume(volumeId)).toMatchObject({ database: 'lighthouse' });
    expect(simulation.local.ssm.parameterValue('/keeper/lighthouse/password')).not.toBe('');
    expect(simulation.local.cloud.denied).toEqual([]);
    expect(simulation.ledger().lost).toBe(0);
  });

  it('while a relocation runs stops it, and removes its replacement too', async () => {
    const simulation = await start();
    simulation.local.ec2.interrupt(simulation.holder);
    await simulation.pass(10);
    expect(aliveHosts(simulation)).toHaveLength(2);
    await simulation.clock.run(simulation.local.formation.destroy('Keeper'));

    expect(aliveHosts(simulation)).toEqual([]);
    expect(simulation.endings.map(({ status }) => status)).toEqual(['ABORTED']);
    expect(simulation.watch.liveVolume()).toMatchObject({ state: 'available' });
  });

  it('and deploying it again brings the same database back', async () => {
    const simulation = await start();
    await simulation.clock.run(simulation.local.formation.destroy('Keeper'));
    await simulation.clock.run(simulation.local.deploy(inject('assembly')));
    await simulation.pass(180);
    await simulation.settle();

    expect(simulation.violations()).toEqual([]);
    expect(simulation.ledger().gaps).toHaveLength(1);
  });
});
