#!/bin/sh
# Becomes a machine of its own: run by machine.py in fresh namespaces for mounts, processes, cgroups, name and IPC.
#
#   machine.sh FOLDER HOSTNAME SOURCE SALT PYTHON
#
# FOLDER is an empty directory. The machine sees the files of the real one and may change all of them: what it writes
# goes into memory, and nothing outlives it. SOURCE (this repository), SALT (a virtualenv with Salt) and PYTHON (the installation that this virtualenv is made from) are at
# /opt/source, /opt/saltstack/salt and /opt/python there, where every user and every unit reaches them. Process 1 is systemd, which starts nothing by itself. The kernel's settings are read-only.
set -eu
umask 022

folder=$1
hostname=$2
source=$3
salt=$4
python=$5

# overlay LOWER MOUNTPOINT NAME
overlay() {
    mkdir -p "$folder/$3.upper" "$folder/$3.work" "$2"
    mount -t overlay -o "lowerdir=$1,upperdir=$folder/$3.upper,workdir=$folder/$3.work" "$3" "$2"
}

mount -t tmpfs -o mode=755 machine "$folder"
root=$folder/root
overlay / "$root" system
overlay "$source" "$root/opt/source" source
overlay "$salt" "$root/opt/saltstack/salt" salt
overlay "$python" "$root/opt/python" python
ln -sf /opt/python/bin/python3 "$root/opt/saltstack/salt/bin/python3"
sed -i 's|^home = .*|home = /opt/python/bin|' "$root/opt/saltstack/salt/pyvenv.cfg"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --rbind /dev "$root/dev"
mount -t sysfs -o ro sysfs "$root/sys"
for empty in run tmp var/log var/tmp; do
    mount -t tmpfs -o mode=1777 empty "$root/$empty"
done
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"

echo "$hostname" >"$root/etc/hostname"
cd "$root"
mkdir -p mnt/before
pivot_root . mnt/before
umount --lazy /mnt/before

cat >/etc/systemd/system/machine.target <<'END'
[Unit]
Description=Nothing but what is started by hand
DefaultDependencies=no
Requires=dbus.socket systemd-journald.socket
END
for unwanted in systemd-tmpfiles-setup.service systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service \
    systemd-udevd.service systemd-sysusers.service systemd-remount-fs.service systemd-journal-flush.service \
    systemd-ask-password-console.path systemd-update-utmp.service sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount systemd-tmpfiles-setup-dev.service; do
    ln -sf /dev/null "/etc/systemd/system/$unwanted"
done
echo /opt/python/lib >/etc/ld.so.conf.d/0-python.conf
ldconfig
: >/etc/fstab
printf '[Journal]\nReadKMsg=no\n' >/etc/systemd/journald.conf
exec env --ignore-environment container=namespaces LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --show-status=no
