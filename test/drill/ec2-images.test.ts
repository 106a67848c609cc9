import { expect, it } from 'vitest';
import { VirtualClock } from '../../drill/cloud/clock.ts';
import { ModelledHosts } from '../../drill/hosts/modelled.ts';
import { createLocalCloud } from '../../drill/local-cloud.ts';

const PARAMETER = '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64';

it('a newer Amazon Linux is what the public parameter names from then on', async () => {
  const clock = new VirtualClock();
  const local = await createLocalCloud({ clock, seed: 1, hosts: (cloud) => new ModelledHosts(cloud) });
  const newest = async () => {
    const input = { Name: PARAMETER };
    const caller = local.iam.administrator;
    const call = local.cloud.call({ service: 'ssm', operation: 'GetParameter', input, caller });
    return (await clock.run(call)).Parameter;
  };
  const before = await newest();
  local.publishImage('ami-0fedcba9876543210');
  expect(before).toMatchObject({ Version: 1 });
  expect(await newest()).toMatchObject({ Value: 'ami-0fedcba9876543210', Version: 2 });
});
