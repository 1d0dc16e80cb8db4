# shellcheck shell=bash
# The QEMU that a host runs in, and its process. Sourced by `run`.

# Debian 12's QEMU 7.2 takes twice as long to boot a host.
EMULATOR_MINIMUM=10.0
EMULATOR_SUITE=trixie

# make_emulator FOLDER: unpacks such a QEMU beside the host's own, if the host's is older.
make_emulator() {
  local folder=$1 stamp
  ! host_emulator_is_good || return 0
  stamp=$(printf '%s %s' "$EMULATOR_MINIMUM" "$DEBIAN_MIRROR" | sha256sum)
  [[ $(cat "$folder/stamp" 2>/dev/null) != "$stamp" ]] || return 0
  rm -rf "$folder"
  mkdir -p "$folder"
  apt_acquire >"$WORK/acquire.conf"
  debian_sources "$EMULATOR_SUITE" signed-by=/usr/share/keyrings/debian-archive-keyring.gpg |
    as_root mmdebstrap --quiet --variant=extract --aptopt="$WORK/acquire.conf" \
      --include=qemu-system-x86,seabios "$EMULATOR_SUITE" "$folder/root" -
  as_root chown -R "$(id -u):$(id -g)" "$folder"
  echo "$stamp" >"$folder/stamp"
}

host_emulator_is_good() {
  local version
  version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
  [[ -n $version ]] && version_at_least "$version" "$EMULATOR_MINIMUM"
}

# emulator ARGUMENT...: replaces the shell with that QEMU.
emulator() {
  local root=$CACHE/qemu/root lib
  if host_emulator_is_good; then exec qemu-system-x86_64 "$@"; fi
  lib=$root/usr/lib/x86_64-linux-gnu
  export QEMU_MODULE_DIR=$lib/qemu
  exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$root/usr/bin/qemu-system-x86_64" \
    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
}

# Prints a free port of 127.0.0.1.
free_port() {
  local port
  while port=$((20000 + RANDOM % 20000)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
  done
}

# Boots the host on a temporary layer over the image, which does not change.
#
# Without SVM, because QEMU's emulation of it, 7.2 to 11.1, fails an assertion when a guest under the emulated KVM writes to
# CR8 while an interrupt waits. UEFI firmware does that at every tick (Linux does not, and boots).
start_emulator() {
  qemu-img create -q -f qcow2 -b "$IMAGE/disk" -F raw "$WORK/disk"
  (emulator -no-user-config -nodefaults -nographic -machine q35 -accel tcg,thread=multi -cpu max,-svm -smp 2 -m 6G \
    -serial "file:$WORK/serial" -kernel "$IMAGE/kernel" -initrd "$IMAGE/initrd" \
    -append 'root=/dev/vda rw console=ttyS0 net.ifnames=0' \
    -drive "if=virtio,file=$WORK/disk,cache=unsafe,discard=unmap" -device virtio-rng-pci \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$SSH_PORT-:22" -device virtio-net-pci,netdev=net,romfile=) \
    </dev/null &>"$WORK/emulator" &
  EMULATOR=$!
}

# Prints the processor time that the emulator has used, in seconds, because on a busy machine the clock says little.
emulator_seconds() { awk '{ print int(($14 + $15) / 100) }' "/proc/${EMULATOR:-none}/stat" 2>/dev/null || echo 0; }

emulator_lives() { kill -0 "$EMULATOR" 2>/dev/null; }

stop_emulator() {
  [[ -n ${EMULATOR:-} ]] || return 0
  kill "$EMULATOR" 2>/dev/null || true
  wait "$EMULATOR" 2>/dev/null || true
}
