# shellcheck shell=bash disable=SC2016 # backticks in messages name commands
# A libvirt that answers on the system connection. Sourced after groups.sh.

libvirt_answers() { with_new_groups timeout 10 virsh --quiet --connect qemu:///system uri &>/dev/null; }

# Without udev /dev/kvm belongs to root. QEMU runs as another user and cannot open it, and libvirt then discards its
# knowledge of QEMU at every call: starting any guest takes 56 s, even one without KVM (measured with libvirt 9.0).
kvm_is_closed() {
  [[ -c /dev/kvm ]] && getent group kvm >/dev/null && [[ ! $(stat -c %A:%G /dev/kvm) =~ ^c(...rw.*:kvm$|......rw) ]]
}

open_kvm() {
  as_root chgrp kvm /dev/kvm
  as_root chmod 0660 /dev/kvm
}

start_libvirt() {
  if [[ $(host_family) == nixos ]]; then
    fail 'libvirt does not answer' 'on NixOS the system configuration must enable it' \
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
    'run that command to see why; then look at `journalctl -u libvirtd` or /var/log/libvirt'
}

# Fedora runs one daemon for each driver; the others run libvirtd.
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

# Starts the daemons that do not run yet, and writes the pid file of each to $LIBVIRT_STARTED, one a line.
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

# Without systemd there is no polkit, and libvirt then refuses every user but root. The socket's group gives access to
# members of libvirt, as the distributions' polkit file does.
libvirt_config() {
  [[ ! -r /etc/libvirt/$1.conf ]] || cat "/etc/libvirt/$1.conf"
  printf '%s\n' 'unix_sock_group = "libvirt"' 'unix_sock_rw_perms = "0770"' 'auth_unix_rw = "none"'
}
