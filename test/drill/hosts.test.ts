import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { RealClock } from '../../drill/cloud/clock.ts';
import { Ec2 } from '../../drill/cloud/ec2/ec2.ts';
import { Cloud, NotModelled, type Shape } from '../../drill/cloud/kernel.ts';
import { sweepLeftovers } from '../../drill/hosts/real.ts';
import { Ledger } from '../../drill/ledger/ledger.ts';
import { ADDRESS, canRunHosts, PASSWORD_PARAMETER, Stage, type TestHost } from '../commands/hosts.ts';

describe.runIf(canRunHosts)('hosts with real disks', () => {
  let stage: Stage;
  let host: TestHost;
  beforeAll(async () => {
    stage = await Stage.open();
    host = await stage.host();
  });
  afterAll(() => stage.close());

  const mkfs = 'mkfs.xfs -q $DEVICE && mkdir -p /mnt && mount $DEVICE /mnt';
  const mount = 'mkdir -p /mnt && mount $DEVICE /mnt';

  async function attached(volumeId: string, to = host): Promise<Record<string, string>> {
    await to.host.attach({ volumeId, sizeGiB: 8 });
    return to.device(volumeId);
  }

  it('run scripts as the agent does, and kill all of them at their timeout', async () => {
    const fine = await host.run('echo "$SSM_word"; id -u; echo oops >&2; exit 3', { SSM_word: 'two words' });
    expect(fine).toEqual({ exitCode: 3, timedOut: false, stdout: 'two words\n0\n', stderr: 'oops\n' });
    const stuck = await host.run('echo begun; sleep 321.5 & sleep 321.5', {}, 1);
    expect(stuck).toMatchObject({ exitCode: 137, timedOut: true, stdout: 'begun\n' });
    expect((await host.run('pgrep -f "sleep 321.5"')).exitCode).toBe(1);
  });

  it('give a device away only when nothing uses it', async () => {
    const volumeId = await stage.volume();
    const device = await attached(volumeId);
    await host.run('setsid sleep 20 3<$DEVICE >/dev/null 2>&1 & echo $! >/run/holder', device);
    expect(await host.host.detach(volumeId)).toBe('busy');
    await host.run('kill "$(</run/holder)"');
    await host.run(mkfs, device);
    expect(await host.host.detach(volumeId)).toBe('busy');
    await host.run('cd /mnt; umount --lazy /mnt; setsid sleep 20 >/dev/null 2>&1 & echo $! >/run/holder');
    expect(await host.host.detach(volumeId)).toBe('busy');
    await host.run('kill "$(</run/holder)"; while [[ -e /proc/$(</run/holder) ]]; do sleep 0.01; done');
    expect(await host.host.detach(volumeId)).toBe('detached');
    expect((await host.run('ls /dev/disk/by-id')).stdout).toBe('');
  });

  it('see a volume grow in use, and fill it with a file system that is mounted', async () => {
    const volumeId = await stage.volume();
    const device = await attached(volumeId);
    const size = 'blockdev --getsize64 $DEVICE; lsblk --bytes --nodeps --noheadings --output SIZE $DEVICE';
    await host.run(`${mkfs} && echo kept >/mnt/file`, device);
    await stage.hosts.resizeVolume(volumeId, 12);
    const grown = await host.run(
      `${size}; xfs_growfs /mnt >/dev/null; df --block-size=1G --output=size /mnt | tail -1; cat /mnt/file; umount /mnt`,
      device,
    );
    expect(grown.stderr).toBe('');
    expect(grown.stdout.split(/\s+/)).toEqual([`${12 * 2 ** 30}`, `${12 * 2 ** 30}`, '12', 'kept', '']);
    await host.host.detach(volumeId);
    await stage.hosts.resizeVolume(volumeId, 13);
    const attachedAgain = await host.run(`${size}; ${mount} && cat /mnt/file; umount /mnt`, await attached(volumeId));
    expect(attachedAgain.stdout.split(/\s+/)).toEqual([`${13 * 2 ** 30}`, `${13 * 2 ** 30}`, 'kept', '']);
    await host.host.detach(volumeId);
  });

  it('cannot be started again', async () => {
    const again = {
      instanceId: host.instanceId,
      instanceType: 't4g.small',
      zone: 'us-east-1a',
      privateIp: host.privateIp,
      macAddress: '02:11:22:33:44:55',
      interfaceId: 'eni-0123456789abcdef0',
      roleArn: 'arn:aws:iam::123456789012:role/keeper-host',
    };
    await expect(stage.hosts.createHost(again)).rejects.toThrow(NotModelled);
  });

  it('lose in a power failure what was not flushed, and keep it in a shutdown', async () => {
    const kept: string[] = [];
    for (const how of ['hard', 'os'] as const) {
      const volumeId = await stage.volume();
      const victim = await stage.host();
      const device = await attached(volumeId, victim);
      await victim.run(`${mkfs} && echo 1 >/mnt/flushed && sync && echo 1 >/mnt/cached`, device);
      await victim.host.shutdown(how);
      const found = await host.run(`${mount} && ls /mnt; umount /mnt`, await attached(volumeId));
      kept.push(found.stdout);
    }
    expect(kept).toEqual(['flushed\n', 'cached\nflushed\n']);
  });

  it('answer for instance metadata with a token only', async () => {
    const metadata = 'http://169.254.169.254/latest';
    const status = 'curl -s -o /dev/null -w "%{http_code} "';
    const answers = await host.run(
      `${status} ${metadata}/meta-data/instance-id; ${status} -X PUT ${metadata}/api/token
       token=$(curl -s -X PUT ${metadata}/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
       read() { curl -s "${metadata}/meta-data/$1" -H "X-aws-ec2-metadata-token: $token"; echo; }
       read instance-id; read placement/region; read "network/interfaces/macs/$(read mac)/local-ipv4s"
       ${status} ${metadata}/meta-data/no-such-thing -H "X-aws-ec2-metadata-token: $token"`,
    );
    expect(answers.stdout).toBe(`401 400 ${host.instanceId}\nus-east-1\n${host.privateIp}\n404 `);
  });

  it('have stand-ins that refuse what they do not model', async () => {
    for (const line of [
      'docker run x',
      'docker create --privileged x',
      'aws s3 ls',
      'dnf install -y htop',
      'systemctl stop x',
    ]) {
      const refused = await host.run(`ln -sf /opt/drill/available/docker /opt/drill/bin/docker; ${line}`);
      expect(refused.stderr).toContain('not modelled');
      expect(refused.exitCode).toBe(64);
    }
  });

  it('move between each other without losing an acknowledged row, and a snapshot has all rows before it', async () => {
    const { host: source, volumeId } = await stage.serving();
    const target = await stage.host();
    await target.arm(volumeId);
    const ledger = new Ledger();
    const acknowledged: number[] = [];
    ledger.onProgress((progress) => acknowledged.push(progress.acknowledged));
    const password = stage.aws.parameters.get(PASSWORD_PARAMETER) ?? '';
    await ledger.start({ onClient: (argv) => stage.hosts.onClient(argv), address: ADDRESS, password });

    const before = acknowledged.at(-1) ?? 0;
    await stage.hosts.createSnapshot('snap-1', volumeId);
    expect(await source.release(volumeId)).toMatchObject({ exitCode: 0 });
    expect(await source.host.detach(volumeId)).toBe('detached');
    await target.receive(volumeId);
    const moved = acknowledged.at(-1) ?? 0;
    await new Promise<void>((resolve) => ledger.onProgress((now) => now.acknowledged > moved + 50 && resolve()));
    const report = await ledger.stop();
    expect(report.lost).toEqual([]);
    expect(report.acknowledged).toBeGreaterThan(before + 50);
    expect(report.gaps).toContainEqual(report.longestGap);
    expect(report.longestGap.to - report.longestGap.from).toBeLessThan(5000);

    await stage.hosts.createVolume({ volumeId: 'vol-00000000000c10e00', sizeGiB: 10 }, 'snap-1');
    const reader = await stage.host();
    await reader.arm('vol-00000000000c10e00');
    await reader.receive('vol-00000000000c10e00');
    const rows = await reader.sql('SELECT count(*) FROM drill.ledger');
    expect(Number(rows.stdout)).toBeGreaterThanOrEqual(before);
  });

  it('that boot with a volume from a snapshot see it before their user data runs, and it ends with them', async () => {
    const { cloud, ec2, call, launchTemplate, subnet } = await ec2On(stage);
    const { VolumeId } = await call('CreateVolume', { AvailabilityZone: 'us-east-1a', Size: 8 });
    await vi.waitFor(() => expect(ec2.volumes()).toMatchObject([{ state: 'available' }]));
    await host.run(`${mkfs} && echo original >/mnt/file && sync`, await attached(VolumeId));
    const { SnapshotId } = await call('CreateSnapshot', { VolumeId });
    await vi.waitFor(() => expect(ec2.snapshots()).toMatchObject([{ state: 'completed' }]));
    await host.run('echo later >/mnt/file');

    const UserData = Buffer.from(`#!/bin/bash
      device=$(echo /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol*)
      mkdir -p /mnt
      mount $device /mnt 2>/dev/null && echo 'mounted beside the original, of the same UUID'
      mount -o nouuid $device /mnt && echo "$(basename $device) $(cat /mnt/file)"`);
    const Ebs = { SnapshotId, VolumeType: 'gp3' };
    const { Instances } = await call('CreateFleet', {
      Type: 'instant',
      LaunchTemplateConfigs: [
        {
          LaunchTemplateSpecification: {
            LaunchTemplateId: await launchTemplate(UserData.toString('base64')),
            Version: '$Latest',
          },
          Overrides: [{ SubnetId: subnet, BlockDeviceMappings: [{ DeviceName: '/dev/sdf', Ebs }] }],
        },
      ],
      TargetCapacitySpecification: { TotalTargetCapacity: 1, DefaultTargetCapacityType: 'on-demand' },
    });
    const instanceId: string = Instances[0].InstanceIds[0];
    const clone = ec2.volumes().find(({ attachment }) => attachment?.instanceId === instanceId)?.volumeId ?? '';
    const said = await stage.said(instanceId, /./);
    expect(said).toBe(`nvme-Amazon_Elastic_Block_Store_${clone.replace('-', '')} original`);
    expect(backingFiles().filter((file) => file.includes(clone))).toHaveLength(1);

    await call('TerminateInstances', { InstanceIds: [instanceId] });
    await vi.waitFor(() => expect(ec2.volumes().map(({ volumeId }) => volumeId)).toEqual([VolumeId]), 10_000);
    expect(backingFiles().filter((file) => file.includes(clone))).toEqual([]);
    await expect(stage.hosts.deleteVolume(clone)).rejects.toThrow('ENOENT');
    expect((await host.run('cat /mnt/file; umount /mnt')).stdout).toBe('later\n');
    await host.host.detach(VolumeId);
    expect(cloud.failure).toBeUndefined();
  });

  it('leave nothing behind when the drill is killed', async () => {
    const drill = spawn(process.execPath, [fileURLToPath(new URL('./abandoned.ts', import.meta.url))]);
    const [directory] = await once(drill.stdout, 'data');
    onTestFinished(() => rmSync(String(directory), { recursive: true }));
    const alive = () => commandLines().filter((line) => line.includes('sleep 987.654'));
    expect(alive()).toHaveLength(1);
    drill.kill('SIGKILL');
    await once(drill, 'exit');
    const swept = await sweepLeftovers();
    expect(swept).toEqual([expect.stringContaining(`keeper-drill-${drill.pid}-`)]);
    expect(alive()).toEqual([]);
    expect(backingFiles().filter((file) => file.includes(`keeper-drill-${drill.pid}-`))).toEqual([]);
    expect(await sweepLeftovers()).toEqual([]);
  });
});

/** EC2 that runs its instances on these hosts, in no time. */
async function ec2On(stage: Stage) {
  const cloud = new Cloud({ clock: new RealClock(), seed: 1 });
  cloud.latencyScale = 0;
  const ec2 = new Ec2(cloud, stage.hosts);
  cloud.register(ec2);
  const ImageId = 'ami-0123456789abcdef0';
  ec2.registerImage({ imageId: ImageId, architecture: 'arm64', rootDeviceName: '/dev/xvda', rootGiB: 8 });
  ec2.resolveInstanceProfile = () => 'arn:aws:iam::123456789012:role/keeper-scratch';
  const context = { stackName: 'test', physicalName: (id: string) => `test-${id}`, assetPath: undefined };
  const resource = async (type: string, properties: Shape) =>
    (await ec2.handlers[type]?.create('Resource', properties, context))?.ref ?? '';
  const call = (operation: string, input: Shape) =>
    cloud.call({
      service: 'ec2',
      operation,
      input,
      caller: { roleArn: 'arn:aws:iam::123456789012:role/test', session: 'test' },
    });
  const launchTemplate = (UserData: string) =>
    resource('AWS::EC2::LaunchTemplate', {
      LaunchTemplateData: { ImageId, InstanceType: 't4g.small', IamInstanceProfile: { Name: 'scratch' }, UserData },
    });
  // Above the addresses of the stage's own hosts.
  const subnet = await resource('AWS::EC2::Subnet', {
    VpcId: await resource('AWS::EC2::VPC', { CidrBlock: '10.0.0.0/24' }),
    CidrBlock: '10.0.0.128/25',
    AvailabilityZone: 'us-east-1a',
  });
  return { cloud, ec2, call, launchTemplate, subnet };
}

function commandLines(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => read(`/proc/${pid}/cmdline`).replaceAll('\0', ' '));
}

function backingFiles(): string[] {
  return readdirSync('/sys/block').map((name) => read(`/sys/block/${name}/loop/backing_file`));
}

/** Empty when there is no such file: what is looked at may end meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
