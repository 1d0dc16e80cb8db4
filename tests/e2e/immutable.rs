//! Promise 1: nothing inside a machine, root included, changes its system.
//!
//! Root may do as it likes with its own memory, and mount something over `/etc` until the
//! next boot. What is promised is that no byte of the system changes: none that the guest
//! reads back, none of the disk on the host.

use anyhow::{Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::world::{A, World};

/// What is tried as root. `can` has to succeed: it shows that the same attempt works where
/// writing is meant to. `cannot` must not.
const ATTEMPTS: &str = r#"
set -u
for tool in touch mount umount dd blockdev unshare chmod mkdir ln mv rm tee; do
  command -v $tool >/dev/null || echo "MISSING $tool"
done
tried=0
can() { tried=$((tried+1)); if ! ( eval "$1" ) >/tmp/said 2>&1; then echo "CONTROL FAILED: $1: $(tail -1 /tmp/said)"; fi; }
cannot() { tried=$((tried+1)); if ( eval "$1" ) >/tmp/said 2>&1; then echo "DONE: $1"; fi; }

# Files: made, changed, moved, removed.
for where in /var /home /root /tmp; do
  can "touch $where/e2e && mkdir $where/e2e.d && ln -s x $where/e2e.l && chmod 600 $where/e2e && mv $where/e2e $where/e2e.m && rm -r $where/e2e.*"
done
for where in / /etc /etc/ssh /nix /nix/store /nix/.base /nix/.delta /usr /usr/bin /bin /boot /boot/loader; do
  [ -d $where ] || continue
  cannot "touch $where/e2e"
  cannot "mkdir $where/e2e.d"
  cannot "ln -s x $where/e2e.l"
  cannot "chmod 777 $where"
  # A link may lead to where writing is meant to be (/etc/mtab, /etc/shadow), but it cannot be replaced itself.
  for kind in f l; do
    first=$(find -H $where -maxdepth 1 -mindepth 1 -type $kind 2>/dev/null | head -1)
    [ -n "$first" ] || continue
    [ $kind = l ] || cannot "echo x >> $first"
    cannot "rm -f $first"
    cannot "mv $first $first.moved"
  done
done
for file in /etc/hostname /etc/machine-id /etc/ssh/sshd_config /etc/nixvm-release /bin/sh /usr/bin/env; do
  [ -e $file ] || continue
  cannot "echo x >> $file"
  cannot "cp --remove-destination /dev/null $file"
  cannot "truncate -s 0 $file"
done

# Mounts: made writable, from within a mount namespace so that the guest stays as it is for other tests.
can "unshare -m sh -c 'mount -t tmpfs -o ro none /mnt && ! touch /mnt/e2e && mount -o remount,rw /mnt && touch /mnt/e2e'"
for point in / /etc /nix/store /nix/.base /nix/.base/store /nix/.delta /boot; do
  for options in remount,rw remount,rw,bind remount,rw,exec,suid,dev; do
    cannot "unshare -m sh -c 'mount -o $options $point; touch $point/e2e'"
  done
  cannot "unshare -m sh -c 'mount --bind $point /mnt && mount -o remount,rw,bind /mnt; touch /mnt/e2e'"
done
# The same without a namespace, as a careless administrator would.
for point in / /etc /nix/store /nix/.delta /boot; do
  cannot "mount -o remount,rw $point; touch $point/e2e"
done
for part in nixvm-base nixvm-delta nixvm-esp; do
  device=/dev/disk/by-partlabel/$part
  can "unshare -m sh -c 'mount -r $device /mnt && ls -A /mnt | grep -q .'"
  cannot "unshare -m sh -c 'mount -o rw $device /mnt; touch /mnt/e2e'"
done

# Disks: what is read back is written again, so that a write that is let through does no harm.
for disk in /dev/disk/by-id/virtio-nixvm-boot /dev/disk/by-id/virtio-nixvm-identity /dev/disk/by-partlabel/nixvm-base \
  /dev/disk/by-partlabel/nixvm-delta /dev/disk/by-partlabel/nixvm-esp; do
  can "dd if=$disk of=/tmp/block bs=4096 count=1"
  cannot "dd if=/tmp/block of=$disk bs=4096 count=1 conv=notrunc,fsync"
  cannot "blockdev --setrw $disk; dd if=/tmp/block of=$disk bs=4096 count=1 conv=notrunc,fsync"
  name=$(basename "$(readlink -f $disk)")
  cannot "echo 0 > /sys/class/block/$name/ro; dd if=/tmp/block of=$disk bs=4096 count=1 oflag=direct conv=notrunc,fsync"
done
rm -f /tmp/block /tmp/said
echo "tried $tried"
"#;

/// What the guest sees of its system, read from the disk anew.
const SEEN: &str = r#"
sync; echo 3 > /proc/sys/vm/drop_caches
find / /etc /boot /nix /nix/store /nix/.delta -xdev \( -fstype erofs -o -fstype overlay -o -fstype vfat \) -printf '%p %m %s %T@ %l\n' | LC_ALL=C sort -u | sha256sum
find /etc /boot -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
sha256sum /nix/.delta/system/init /bin/sh /usr/bin/env
"#;

pub fn promise_1_nothing_of_the_system_can_be_written(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let disks = boot_disks(world)?;
    let disks_before = host::sha256(&disks)?;
    let seen_before = world.guest_root(A, SEEN)?.ok()?.stdout;

    let attempts = world.guest_root(A, ATTEMPTS)?.ok()?;
    let tried: u32 =
        attempts.stdout.lines().find_map(|l| l.strip_prefix("tried ")?.parse().ok()).unwrap_or(0);
    ensure!(tried >= 100, "only {tried} attempts were made:\n{attempts}");
    ensure!(attempts.stdout.lines().count() == 1, "root in the guest got further than it may:\n{attempts}");
    tell!("{tried} attempts as root");

    let seen = world.guest_root(A, SEEN)?.ok()?.stdout;
    ensure!(seen == seen_before, "the guest's system was\n{seen_before}and now is\n{seen}");
    let disks_now = host::sha256(&disks)?;
    ensure!(disks_now == disks_before, "the disk on the host was\n{disks_before}and now is\n{disks_now}");

    let mounts = world.admin(A, &["cat", "/proc/mounts"])?.ok()?.stdout;
    let of = |point: &str| {
        mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some(point)).unwrap_or_default()
    };
    let type_of = |point: &str| of(point).split(' ').nth(2).unwrap_or_default().to_owned();
    ensure!(type_of("/") == "erofs", "`/` can be written by its kind: {}", of("/"));
    ensure!(type_of("/tmp") == "tmpfs", "/tmp is no tmpfs: {}", of("/tmp"));
    ensure!(
        type_of("/var") == "ext4" && type_of("/home") == "ext4",
        "/var and /home are {} and {}",
        of("/var"),
        of("/home")
    );
    Ok(Outcome::Passed)
}

/// Returns the paths of a machine's boot volume and of the base image below it.
fn boot_disks(world: &World) -> Result<Vec<String>> {
    let boot = host::volume(&world.pool, A, "boot")?;
    let bases: Vec<String> =
        host::volumes(&world.pool)?.into_iter().filter(|v| v.starts_with("nixvm-base-")).collect();
    ensure!(!bases.is_empty(), "there is no base image in the pool");
    let mut disks = vec![boot];
    for base in bases {
        disks.push(host::volume_path(&world.pool, &base)?);
    }
    Ok(disks)
}
