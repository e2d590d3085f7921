#!/bin/sh
# Becomes a machine of its own: run by machine.py in fresh namespaces for mounts, processes, cgroups, name and IPC.
#
#   machine.sh FOLDER HOSTNAME SOURCE SALT PYTHON PACKAGES
#
# FOLDER is an empty directory. The machine has the software of the real one, as a fresh Debian would have it: /usr
# without /usr/local, and the files of /etc that programs need everywhere. It sees nothing of what the real one is used
# for, which may well be a Salt master with this exporter: its settings, state, units, users and homes. All of it may be
# changed: what is written goes into memory, and nothing outlives the machine. SOURCE (this repository), SALT (a
# virtualenv with Salt), PYTHON (the installation that this virtualenv is made from) and PACKAGES (the folder of the
# packages that the tests run with) are at /opt/source, /opt/saltstack/salt, /opt/python and /opt/packages there, where
# every user and every unit reaches them. Process 1 is systemd, which starts nothing by itself. The kernel's settings
# are read-only.
set -eu
umask 022

folder=$1
hostname=$2
source=$3
salt=$4
python=$5
packages=$6

# overlay LOWER MOUNTPOINT NAME
overlay() {
    mkdir -p "$folder/$3.upper" "$folder/$3.work" "$2"
    mount -t overlay -o "lowerdir=$1,upperdir=$folder/$3.upper,workdir=$folder/$3.work" "$3" "$2"
}

mount -t tmpfs -o mode=755 machine "$folder"
root=$folder/root
mkdir "$root"
mount -t tmpfs -o mode=755 machine "$root"
cd "$root"

# --- software ---

overlay /usr usr usr
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        cp -P "/$name" "$name"
    elif [ -d "/$name" ]; then
        overlay "/$name" "$name" "$name"
    fi
done
mount -t tmpfs -o mode=755 local usr/local
mkdir usr/local/bin usr/local/etc usr/local/lib usr/local/sbin usr/local/share
overlay "$source" opt/source source
overlay "$salt" opt/saltstack/salt salt
overlay "$python" opt/python python
overlay "$packages" opt/packages packages
ln -sf /opt/python/bin/python3 opt/saltstack/salt/bin/python3
sed -i 's|^home = .*|home = /opt/python/bin|' opt/saltstack/salt/pyvenv.cfg
[ -e usr/bin/python3 ] || ln -s /opt/python/bin/python3 usr/local/bin/

# What packages of Salt, of this exporter and of what watches it may have added; Prometheus' programs are used.
rm -rf usr/bin/salt usr/bin/salt-* usr/bin/spm
for units in usr/lib/systemd/system lib/systemd/system; do
    rm -rf "$units"/salt* "$units"/prometheus* "$units"/alertmanager* "$units"/*.wants/salt* "$units"/*.wants/prometheus*
done

# --- /etc, of which nothing comes along that is not named here ---

mkdir -p etc/systemd/system etc/dbus-1/system.d etc/default etc/ssl etc/security
for name in alternatives bash.bashrc ca-certificates debian_version environment gai.conf host.conf inputrc iproute2 \
    ld.so.conf ld.so.conf.d localtime login.defs mime.types os-release pam.conf pam.d profile profile.d protocols python3 \
    rpc security/namespace.conf security/pam_env.conf services shells skel ssl/certs ssl/openssl.cnf terminfo timezone; do
    [ ! -e "/etc/$name" ] || cp -a "/etc/$name" "etc/$name"
done
cp -a /etc/python3.* etc/ 2>/dev/null || true
: >etc/security/limits.conf
: >etc/fstab
: >etc/resolv.conf
echo "$hostname" >etc/hostname
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
ln -s /proc/mounts etc/mtab
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n' >etc/nsswitch.conf
# The users and groups that the software has, by the same numbers; a user `salt` is for the packages of Salt to make.
ours='$1 !~ /^(salt|prometheus|alertmanager)/ && ($3 < 100 || $1 ~ /^(_apt|messagebus|nobody|nogroup|systemd-.*|users)$/)'
awk -F : "$ours" /etc/passwd >etc/passwd
awk -F : -v OFS=: "$ours { \$4 = \"\"; print }" /etc/group >etc/group
awk -F : '{ print $1 ":*:19000:0:99999:7:::" }' etc/passwd >etc/shadow
chmod 640 etc/shadow

# --- everything else, empty ---

mkdir -p boot dev home media mnt/before proc root run srv sys tmp
mkdir -p var/backups var/cache var/lib/systemd var/local var/log var/mail var/opt var/spool var/tmp
chmod 700 root
chmod 1777 tmp var/tmp
ln -s /run var/run
ln -s /run/lock var/lock

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --rbind /dev dev
[ ! -d dev/shm ] || mount -t tmpfs -o mode=1777 shm dev/shm
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 run run
mount -t cgroup2 cgroup sys/fs/cgroup

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
printf '[Journal]\nReadKMsg=no\n' >/etc/systemd/journald.conf
exec env --ignore-environment container=namespaces LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --show-status=no
