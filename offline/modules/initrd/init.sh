#!/bin/sh
# PID 1 of the initial ramdisk: mounts the image's file systems, puts /etc and /usr together and starts systemd.
#
# /mounts has a line for each mount: device, mount point, type, options, flags (check, nofail), seconds to wait for the
# device. The kernel's init= names the machine's toplevel, which says what else belongs to the machine.
root=/sysroot
export PATH=/bin

say() { echo "initrd: $*" >/dev/console; }

# Nobody can repair a machine whose image does not boot from inside, and nobody may get a shell here without a password.
fail() {
  say "$*"
  say "the machine cannot start and is switched off; its disks are as they were"
  sleep 5
  poweroff -f
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid,mode=0755 dev /dev

while read -r module; do
  insmod "/modules/$module" || say "module $module was not loaded"
done </modules/order

# Prints the device node of a name that udev would make a link of.
node() {
  case $1 in
  /dev/disk/by-partlabel/*)
    for entry in /sys/class/block/*/uevent; do
      if grep -qx "PARTNAME=${1##*/}" "$entry"; then sed -n 's,^DEVNAME=,/dev/,p' "$entry"; fi
    done
    ;;
  /dev/disk/by-id/virtio-*)
    for entry in /sys/block/*/serial; do
      if [ "$(cat "$entry")" = "${1##*/virtio-}" ]; then
        entry=${entry%/serial}
        echo "/dev/${entry##*/}"
      fi
    done
    ;;
  /dev/disk/by-label/*) findfs "LABEL=${1##*/}" 2>/dev/null ;;
  /dev/disk/by-uuid/*) findfs "UUID=${1##*/}" 2>/dev/null ;;
  *) if [ -e "$1" ]; then echo "$1"; fi ;;
  esac
}

# As node, and waits for a disk that appears late.
wait_for() { # NAME SECONDS
  tries=$(($2 * 10))
  while :; do
    found=$(node "$1" | head -n 1)
    if [ -n "$found" ]; then
      echo "$found"
      return
    fi
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then return 1; fi
    sleep 0.1
  done
}

# e2fsck(8): 1 and 2 say that errors were mended; more needs a person.
check() { # DEVICE
  e2fsck -p "$1" >/dev/console
  if [ $? -gt 3 ]; then fail "$1 has errors that e2fsck does not mend by itself; check its disk from the host"; fi
}

mount_one() { # DEVICE TARGET TYPE OPTIONS FLAGS SECONDS
  device=$1 options=$4
  case $1 in
  /dev/*) device=$(wait_for "$1" "$6") || {
    say "no disk $1"
    return 1
  } ;;
  /*) device=$root$1 ;;
  esac
  case $options in
  *lowerdir=*)
    layers=${options##*lowerdir=}
    options=${options%lowerdir=*}lowerdir=$root$(echo "$layers" | sed "s,:,:$root,g")
    ;;
  esac
  case $5 in *check*) check "$device" ;; esac
  mkdir -p "$root$2"
  mount -t "$3" -o "$options" "$device" "$root$2"
}

tab=$(printf '\t')
while IFS=$tab read -r device target type options flags seconds; do
  if ! mount_one "$device" "$target" "$type" "$options" "$flags" "$seconds"; then
    case $flags in
    *nofail*) say "$target is not mounted; the machine starts without it" ;;
    *) fail "$target cannot be mounted from $device" ;;
    esac
  fi
  # What is mounted below /run has to be seen by systemd too, so it is the guest's from the start.
  if [ "$target" = / ]; then mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% run "$root/run"; fi
done </mounts

init=$(sed -n 's/.*\<init=\([^ ]*\).*/\1/p' /proc/cmdline)
toplevel=${init%/init}
if [ -L "$root$toplevel" ]; then toplevel=$(readlink "$root$toplevel"); fi
[ -L "$root$toplevel/init" ] || fail "there is no system at $toplevel"

part() { echo "$root$(readlink "$root$toplevel/$1")"; }
mount --bind "$(part usr)" "$root/usr" || fail "/usr cannot be mounted"

mkdir -p /run/etc
mount -t erofs -o ro,loop "$(part etc.erofs)" /run/etc || fail "the image of /etc cannot be mounted"
mount -t overlay -o "ro,nosuid,nodev,lowerdir=/run/etc:$(part etc-base)" etc "$root/etc" || fail "/etc cannot be mounted"
umount -l /run/etc

ln -s "$toplevel" "$root/run/current-system"
ln -s "$toplevel" "$root/run/booted-system"

for folder in dev proc sys; do mount --move "/$folder" "$root/$folder"; done
exec switch_root "$root" "$init"
