#!/bin/bash
# The first process of a host, in new mount, pid, network, uts and ipc namespaces. It gives the host a root of its own (an
# overlay on the machine's, changes in memory), its own /dev, /proc, /run and /tmp, and then only reaps orphans.
#
# Parameters (environment): HOST_NAME, HOST_DIRECTORY (an empty directory of the drill), GUEST_DIRECTORY (what goes to
# /opt/drill), NODE (the node binary), MEMORY_KIB (what /proc/meminfo says); where containers are real ones, also
# IMAGE (what a pull brings) and CGROUP (where containers go)
set -euo pipefail

mount -t tmpfs tmpfs "$HOST_DIRECTORY"
cd "$HOST_DIRECTORY"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cp -R "$GUEST_DIRECTORY" root/opt/drill
touch root/opt/drill/node
mount --bind "$NODE" root/opt/drill/node
postgresql=(/usr/lib/postgresql/*/bin)
ln -s "${postgresql[-1]}" root/opt/drill/postgresql # where there are several, the newest

cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
if [[ -n ${IMAGE:-} ]]; then
  touch opt/drill/{docker,engine.sock}
  mount --bind "$(command -v docker)" opt/drill/docker
  mount --bind /var/run/docker.sock opt/drill/engine.sock
  mount --rbind /sys/fs/cgroup sys/fs/cgroup
  mkdir -p var/lib/docker
  mount -t tmpfs -o mode=711 tmpfs var/lib/docker
fi
for directory in run tmp var/tmp; do mount -t tmpfs tmpfs "$directory"; done
chmod 1777 tmp var/tmp
mkdir -p run/lock run/drill/latency
echo "${IMAGE:-}" >run/drill/image
echo "${CGROUP:-}" >run/drill/cgroup

mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mkdir -p dev/shm dev/disk/by-id
mount -t tmpfs -o mode=1777 tmpfs dev/shm

mkdir .machine
pivot_root . .machine
umount --lazy /.machine
rmdir /.machine
echo "MemTotal:       $MEMORY_KIB kB" >/run/drill/meminfo
mount --bind /run/drill/meminfo /proc/meminfo

# What a fresh Amazon Linux does not have, and what stands in for what it has.
rm -rf /data /var/lib/cloud /usr/local/bin/{docker,aws,dnf} /usr/bin/{docker,aws,dnf}
hostname "$HOST_NAME"
ip link set lo up
echo ready

while :; do
  sleep infinity &
  wait
done
