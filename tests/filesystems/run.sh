#!/usr/bin/env bash
# Restores to every file system that can be mounted here: a first time, again over it, and in place over an edited tree. What each can
# hold is not written in a table: trial.py makes the same entries with the system's own calls and looks what became of them.
#
#     PACKSTONE=target/release/packstone bash tests/filesystems/run.sh [--full] [NAME ...]
#
# NAME: tmpfs ext4 xfs btrfs f2fs vfat overlay nfs bindfs sshfs ntfs-3g exfat-fuse. Without names: tmpfs, ext4, bindfs and exfat-fuse, each
# shortly; with --full all of them, with every way to write over what is there. A file system that is missing here prints SKIPPED and the reason.
# Needs root, python3, setfacl, setcap. Everything is mounted in a mount namespace of its own, so that nothing stays.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" -ne 0 ]; then
    echo "SKIPPED file systems: mounting them needs root"
    exit 0
fi
if [ -z "${PACKSTONE_FILESYSTEMS_INSIDE:-}" ]; then
    PACKSTONE=$(realpath "${PACKSTONE:-$here/../../target/release/packstone}")
    export PACKSTONE PACKSTONE_FILESYSTEMS_INSIDE=1
    # Processes too: whatever ends this script ends sshd and the FUSE servers with it.
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash "$here/run.sh" "$@"
fi
for tool in python3 setfacl setcap setpriv; do
    command -v "$tool" >/dev/null || { echo "SKIPPED file systems: it needs $tool"; exit 0; }
done

full=()
if [ "${1:-}" = --full ] || [ "${PACKSTONE_FULL:-}" = 1 ]; then
    full=(--full)
    [ "${1:-}" != --full ] || shift
fi
wanted=("$@")
if [ "${#wanted[@]}" -eq 0 ]; then
    wanted=(tmpfs ext4 bindfs exfat-fuse)
    [ "${#full[@]}" -eq 0 ] || wanted=(tmpfs ext4 xfs btrfs f2fs vfat overlay nfs bindfs sshfs ntfs-3g exfat-fuse)
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/packstone-filesystems.XXXXXX")
finish() {
    local code=$?
    cd /
    for at in "$work"/on-*/mount "$work"/on-*/below "$work/source" ; do umount --lazy "$at" 2>/dev/null || true; done
    chattr -R -f -i -a "$work" 2>/dev/null || true
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
cp "$PACKSTONE" "$work/packstone"

why=
skipped() { echo "SKIPPED $1: $2"; }
kernel_has() { grep -qw "$1" /proc/filesystems || { modprobe "$1" 2>/dev/null && grep -qw "$1" /proc/filesystems; }; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# $1: file system, $2: MiB, the rest: how it is made.
on_disk() {
    local kind=$1 size=$2
    shift 2
    command -v "$1" >/dev/null || { why="it needs $1"; return 1; }
    kernel_has "$kind" || { why="the kernel does not have it"; return 1; }
    truncate -s "${size}M" "$at/image"
    "$@" "$at/image" >/dev/null 2>"$at/log" || { why="$1: $(tail -n 1 "$at/log")"; return 1; }
    # A loop device of the mount's own is given back with it, whatever ends this script.
    mount -t "$kind" -o loop "$at/image" "$at/mount" 2>"$at/log" || { why="mount: $(tail -n 1 "$at/log")"; return 1; }
}

fuse_program() {
    command -v "$1" >/dev/null || { why="it needs $1"; return 1; }
    [ -c /dev/fuse ] || { why="it needs /dev/fuse"; return 1; }
}

# Mounts the file system that is named at $at/mount, or says in $why what is missing. $users: who restores; $words: what trial.py must know.
mount_named() {
    mkdir -p "$at/mount" "$at/below"
    users=(0) words=()
    case $1 in
    tmpfs) mount -t tmpfs -o size=512m,mode=755 trial "$at/mount" && users=(0 65534) ;;
    ext4) on_disk ext4 400 mkfs.ext4 -q && users=(0 65534) ;;
    xfs) on_disk xfs 400 mkfs.xfs -q && users=(0 65534) ;;
    btrfs) on_disk btrfs 400 mkfs.btrfs -q && users=(0 65534) ;;
    f2fs) on_disk f2fs 400 mkfs.f2fs -q ;;
    vfat) on_disk vfat 400 mkfs.vfat ;;
    overlay)
        kernel_has overlay || { why="the kernel does not have it"; return 1; }
        mount -t tmpfs -o size=512m trial "$at/below" && mkdir "$at/below/lower" "$at/below/upper" "$at/below/work" &&
            mount -t overlay -o "lowerdir=$at/below/lower,upperdir=$at/below/upper,workdir=$at/below/work" trial "$at/mount"
        ;;
    nfs) kernel_has nfs4 && kernel_has nfsd || { why="the kernel does not have it"; return 1; }
        why="there is no server in this trial"; return 1 ;;
    bindfs)
        fuse_program bindfs || return 1
        mount -t tmpfs -o size=512m trial "$at/below" && chown 65534 "$at/below" &&
            bindfs --force-user=65534 --force-group=65534 "$at/below" "$at/mount" && users=(0 65534) words=(--fuse)
        ;;
    sshfs)
        fuse_program sshfs || return 1
        local sshd at_port
        sshd=$(command -v sshd || echo /usr/sbin/sshd)
        [ -x "$sshd" ] || { why="it needs openssh-server"; return 1; }
        at_port=$(port)
        mkdir -p "$at/ssh" /run/sshd
        mount -t tmpfs -o size=512m,mode=755 trial "$at/below"
        ssh-keygen -q -t ed25519 -N '' -f "$at/ssh/host"
        ssh-keygen -q -t ed25519 -N '' -f "$at/ssh/id"
        printf '%s\n' "Port $at_port" "ListenAddress 127.0.0.1" "HostKey $at/ssh/host" "AuthorizedKeysFile $at/ssh/id.pub" "StrictModes no" \
            "UsePAM no" "PasswordAuthentication no" "PermitRootLogin prohibit-password" "PidFile none" "Subsystem sftp internal-sftp" \
            >"$at/ssh/config"
        "$sshd" -D -e -f "$at/ssh/config" 2>"$at/ssh/log" &
        for _ in $(seq 50); do (: </dev/tcp/127.0.0.1/"$at_port") 2>/dev/null && break; sleep 0.1; done
        sshfs -o "IdentityFile=$at/ssh/id,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,LogLevel=ERROR" -p "$at_port" \
            "root@127.0.0.1:$at/below" "$at/mount" 2>"$at/log" || { why="sshfs: $(tail -n 1 "$at/log")"; return 1; }
        words=(--fuse)
        ;;
    ntfs-3g)
        fuse_program ntfs-3g || return 1
        truncate -s 400M "$at/image"
        mkntfs -F -Q -q "$at/image" >/dev/null 2>&1 && ntfs-3g -o big_writes "$at/image" "$at/mount" && words=(--fuse)
        ;;
    exfat-fuse)
        fuse_program mount.exfat-fuse || return 1
        command -v mkfs.exfat >/dev/null || { why="it needs mkfs.exfat"; return 1; }
        truncate -s 400M "$at/image"
        mkfs.exfat "$at/image" >/dev/null 2>&1 || { why="mkfs.exfat: it failed"; return 1; }
        # It takes block devices only. Given back while it is in use, the device goes with the mount.
        local device
        device=$(losetup --find --show "$at/image") || { why="it needs a loop device"; return 1; }
        mount.exfat-fuse "$device" "$at/mount" >/dev/null 2>"$at/log" && words=(--fuse) || why="mount: $(tail -n 1 "$at/log")"
        losetup --detach "$device"
        [ -z "$why" ]
        ;;
    *) why="nobody knows it"; return 1 ;;
    esac
}

python3 -B "$here/trial.py" control "$here/../every-kind.py"
mkdir "$work/source"
mount -t tmpfs -o size=1g,mode=755 trial "$work/source"
python3 -B "$here/trial.py" prepare "$work" "$here/../every-kind.py" "${full[@]}"
failed=0 trials=0
for name in "${wanted[@]}"; do
    at=$work/on-$name why=
    mkdir "$at"
    if ! mount_named "$name"; then
        skipped "$name" "${why:-it could not be mounted}"
        continue
    fi
    # Shortly as root; tmpfs, where nothing is lost to the file system, as an ordinary user.
    if [ "${#full[@]}" -eq 0 ] && [ "${#users[@]}" -gt 1 ]; then
        if [ "$name" = tmpfs ]; then users=(65534); else users=(0); fi
    fi
    for user in "${users[@]}"; do
        trials=$((trials + 1))
        python3 -B "$here/trial.py" on "$work" "$here/../every-kind.py" "$name" "$at/mount" --user "$user" "${words[@]}" "${full[@]}" ||
            failed=$((failed + 1))
    done
    umount "$at/mount" 2>/dev/null || umount --lazy "$at/mount"
done
echo "file systems: $((trials - failed)) of $trials trials without a fault: ${wanted[*]}"
[ "$failed" -eq 0 ]
