# shellcheck shell=bash
# Runs a builder with the programs of the store as its /usr:
#
#   enter.sh BUSYBOX PROGRAMS MULTIARCH BUILDER
#
# The programs are Debian's, which know their libraries, interpreters and each other by paths below /usr. So the builder gets
# a root of its own, by bubblewrap in a user namespace; that works inside Nix's sandbox, as one of Nix's build users.
set -euo pipefail
busybox=$1 usr=$2/usr multiarch=$3 builder=$4

loaders=("$usr"/lib*/ld-linux-*.so.*)
enter=("${loaders[0]}" --library-path "$usr/lib/$multiarch" "$usr/bin/bwrap" --die-with-parent)
enter+=(--ro-bind "$usr" /usr --symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib --symlink usr/lib64 /lib64)
enter+=(--bind /nix /nix --dev-bind /dev /dev --bind /proc /proc --ro-bind /etc /etc --bind /tmp /tmp)
# /build in a sandbox.
enter+=(--bind "$NIX_BUILD_TOP" "$NIX_BUILD_TOP" --chdir "$PWD")

if problem=$("${enter[@]}" /usr/bin/true 2>&1); then exec "${enter[@]}" /usr/bin/bash "$builder"; fi

# A container, or a kernel that lets only root make namespaces. Nix may have run this without a sandbox for the same reason.
if [ -x /usr/bin/dpkg-deb ] && [ -x /bin/bash ]; then
  # nixvm shows what begins with its name, once.
  echo "nixvm: builders run this host's own programs, because they cannot have a root of their own: $problem" >&2
  exec /bin/bash "$builder"
fi
echo "error: this builder cannot have a root of its own: $problem" >&2
echo "hint: let ordinary users make user namespaces, which sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone" \
  "and kernel.apparmor_restrict_unprivileged_userns decide; or, as root or a trusted user of Nix, build without its sandbox:" \
  "NIX_CONFIG='sandbox = false' nixvm ..." >&2
"$busybox" false
