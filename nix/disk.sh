#!/usr/bin/env bash
# Writes the two disk images that nix/image.nix describes:
#
#   disk.sh base OUT.qcow2 OUT.layout ROOT KERNEL INITRD PARAMS LOADER LOADER_NAME
#       GPT | ESP: systemd-boot, kernel, initrd | erofs of the folder ROOT
#   disk.sh thin OUT.qcow2 LAYOUT ROOT BACKING_NAME
#       the same with a third partition, an erofs of the folder ROOT; only what differs from the base is in the file
#
# It needs mkfs.erofs (1.5 or newer), mtools, mkfs.vfat, sfdisk and qemu-img (7.2 or newer), and neither root nor a loop
# device, a user namespace or KVM, so it runs in a Nix sandbox. Two runs on the same input write the same bytes.
set -euo pipefail
export LC_ALL=C TZ=UTC
export SOURCE_DATE_EPOCH=315532800 # 1980-01-01: FAT knows nothing earlier
export MTOOLS_SKIP_CHECK=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mib_of() { # sizes of the files together, in MiB, rounded up
  local bytes=0 file
  for file; do bytes=$((bytes + $(stat -L -c %s "$file"))); done
  echo $(((bytes + 1048575) / 1048576))
}

# Plain lz4: lz4hc takes 19 times as long for 10% less, and -Ededupe costs more time than it saves space.
# Time 1 is the one every file in a Nix store has: Python compares it with the one noted in its .pyc files. It is
# given twice because SOURCE_DATE_EPOCH, set for mtools, goes before -T.
# No extended attributes: those of the builder's own file system would get in.
make_erofs() { # OUT UUID ROOT
  local block=()
  # From 1.6 on the block size is the builder's page size, which a guest with smaller pages cannot mount.
  if mkfs.erofs --help 2>&1 | grep -q '^ *-b#'; then block=(-b4096); fi
  SOURCE_DATE_EPOCH=1 mkfs.erofs --quiet "${block[@]}" -zlz4 -T1 -x-1 --all-root -U "$2" "$1" "$3" >&2
}

# Fixed names for everything: what is shared by all disks of a profile has to be equal in all of them. Telling the kernel is for
# devices: sfdisk would sleep for a quarter of a second and sync the whole host.
partition_table() { # DISK ESP_MIB BASE_MIB [DELTA_MIB]
  {
    echo "label: gpt"
    echo "label-id: 6e697876-6d00-4000-8000-000000000000"
    echo "start=1MiB, size=$2MiB, type=U, name=nixvm-esp, uuid=6e697876-6d00-4000-8000-000000000001"
    echo "start=$((1 + $2))MiB, size=$3MiB, type=L, name=nixvm-base, uuid=6e697876-6d00-4000-8000-000000000002"
    if [ $# -gt 3 ]; then
      echo "start=$(delta_start "$2" "$3")MiB, size=$4MiB, type=L, name=nixvm-delta, uuid=6e697876-6d00-4000-8000-000000000003"
    fi
  } | sfdisk --quiet --no-tell-kernel "$1"
}

base_size() { echo $((1 + $1 + $2 + 1)); } # ESP_MIB BASE_MIB; a MiB for the table at each end

# Behind the base image's end: nothing of the base, such as the copy of its table, may show through the delta.
delta_start() { base_size "$1" "$2"; }

place() { # FILE DISK START_MIB
  dd if="$1" of="$2" bs=1M seek="$3" conv=notrunc,sparse status=none
}

make_esp() { # OUT SIZE_MIB KERNEL INITRD PARAMS LOADER LOADER_NAME
  local tree=$work/esp
  mkdir -p "$tree"
  printf 'timeout 0\ndefault nixvm.conf\neditor no\n' >"$tree/loader.conf"
  cat >"$tree/nixvm.conf" <<EOF
title NixOS (nixvm)
linux /EFI/nixvm/kernel.efi
initrd /EFI/nixvm/initrd.efi
options init=/nix/.delta/system/init $5
EOF
  cp "$3" "$tree/kernel.efi"
  cp "$4" "$tree/initrd.efi"
  cp "$6" "$tree/$7"
  touch -d "@$SOURCE_DATE_EPOCH" "$tree"/*

  truncate -s "$2M" "$1"
  mkfs.vfat --invariant -F 32 -n ESP -i 6e697876 "$1" >&2
  mmd -i "$1" ::EFI ::EFI/BOOT ::EFI/nixvm ::loader ::loader/entries
  mcopy -m -i "$1" "$tree/$7" "::EFI/BOOT/$7"
  mcopy -m -i "$1" "$tree/kernel.efi" ::EFI/nixvm/kernel.efi
  mcopy -m -i "$1" "$tree/initrd.efi" ::EFI/nixvm/initrd.efi
  mcopy -m -i "$1" "$tree/loader.conf" ::loader/loader.conf
  mcopy -m -i "$1" "$tree/nixvm.conf" ::loader/entries/nixvm.conf
}

make_base() {
  local out=$1 layout=$2 root=$3 kernel=$4 initrd=$5 params=$6 loader=$7 loader_name=$8
  local disk=$work/disk.raw esp base

  make_erofs "$work/base.erofs" 6e697876-6d62-4173-8500-000000000001 "$root"
  base=$(mib_of "$work/base.erofs")
  esp=$(($(mib_of "$kernel" "$initrd" "$loader") + 8))
  if [ "$esp" -lt 40 ]; then esp=40; fi # FAT32 begins at 33 MiB
  make_esp "$work/esp.img" "$esp" "$kernel" "$initrd" "$params" "$loader" "$loader_name"

  truncate -s "$(base_size "$esp" "$base")M" "$disk"
  partition_table "$disk" "$esp" "$base"
  place "$work/esp.img" "$disk" 1
  place "$work/base.erofs" "$disk" $((1 + esp))
  rm "$work/base.erofs"
  qemu-img convert -q -f raw -O qcow2 "$disk" "$out"
  printf 'esp_mib=%s\nbase_mib=%s\n' "$esp" "$base" >"$layout"
}

# The table and the delta are written into an image of their own, in which everything else is a hole; naming the
# base as its backing file afterwards lets the base show through the holes. The base itself is not read.
make_thin() {
  local out=$1 layout=$2 root=$3 backing=$4
  local disk=$work/disk.raw esp_mib base_mib delta start
  # shellcheck source=/dev/null
  . "$layout"

  make_erofs "$work/delta.erofs" 6e697876-6d64-454c-8500-000000000001 "$root"
  delta=$(mib_of "$work/delta.erofs")
  start=$(delta_start "$esp_mib" "$base_mib")
  truncate -s "$((start + delta + 1))M" "$disk"
  partition_table "$disk" "$esp_mib" "$base_mib" "$delta"
  place "$work/delta.erofs" "$disk" "$start"
  qemu-img convert -q -f raw -O qcow2 "$disk" "$out"
  qemu-img rebase -q -u -f qcow2 -F qcow2 -b "$backing" "$out"
}

"make_$1" "${@:2}"
