# shellcheck shell=bash disable=SC2016 # backticks in messages name commands
# A libvirt that answers on the system connection. Sourced after groups.sh.

libvirt_answers() { with_new_groups timeout 10 virsh --quiet --connect qemu:///system uri &>/dev/null; }

# Without udev /dev/kvm stays root's. QEMU runs as another user, cannot open it, and libvirt then throws away what
# it knows of QEMU at every call: 56 s to start any guest, one without KVM too (measured with libvirt 9.0).
kvm_is_closed() {
  [[ -c /dev/kvm ]] && getent group kvm >/dev/null && [[ ! $(stat -c %A:%G /dev/kvm) =~ ^c(...rw.*:kvm$|......rw) ]]
}

open_kvm() {
  as_root chgrp kvm /dev/kvm
  as_root chmod 0660 /dev/kvm
}

start_libvirt() {
  if [[ $(host_family) == nixos ]]; then
    fail 'libvirt does not answer' 'on NixOS it is part of the configuration' \
      "set virtualisation.libvirtd.enable = true; and users.users.$(id -un).extraGroups = [ \"libvirtd\" ]; and rebuild"
  elif has_systemd; then
    # shellcheck disable=SC2046 # one word a unit
    as_root systemctl enable --now $(libvirt_units)
  else
    start_libvirt_by_hand
  fi
  local tries
  for ((tries = 0; tries < 20; tries++)); do
    libvirt_answers && return
    sleep 0.5
  done
  fail 'libvirt was started but does not answer' '`virsh --connect qemu:///system uri` fails' \
    'run that yourself to see why; then look at `journalctl -u libvirtd` or /var/log/libvirt'
}

# Fedora runs one daemon a driver; the others run libvirtd.
libvirt_units() {
  case $(host_family) in
    fedora) printf '%s.socket\n' virtqemud virtnetworkd virtstoraged virtnodedevd virtsecretd virtnwfilterd virtlogd ;;
    *) printf '%s\n' libvirtd.service virtlogd.socket ;;
  esac
}

libvirt_daemons() {
  if command -v libvirtd >/dev/null; then
    printf '%s\n' virtlogd libvirtd
  else
    printf '%s\n' virtlogd virtnwfilterd virtnodedevd virtsecretd virtstoraged virtnetworkd virtqemud
  fi
}

# Daemons that run already are left alone. $LIBVIRT_STARTED gets a pid file a line for those started here.
start_libvirt_by_hand() {
  local daemon options
  for daemon in $(libvirt_daemons); do
    process_lives "/run/$daemon.pid" && continue
    options=()
    if ((EUID != 0)) && [[ $daemon != virtlogd ]]; then
      libvirt_config "$daemon" | as_root_write "/run/nixvm/$daemon.conf" 644
      options=(--config "/run/nixvm/$daemon.conf")
    fi
    as_root "$daemon" --daemon "${options[@]}"
    echo "/run/$daemon.pid" >>"${LIBVIRT_STARTED:-/dev/null}"
  done
}

# Where no systemd runs, no polkit does, and libvirt then turns every user away but root. The socket's group is
# the rule that the distributions' polkit file states too: members of libvirt may.
libvirt_config() {
  [[ ! -r /etc/libvirt/$1.conf ]] || cat "/etc/libvirt/$1.conf"
  printf '%s\n' 'unix_sock_group = "libvirt"' 'unix_sock_rw_perms = "0770"' 'auth_unix_rw = "none"'
}
