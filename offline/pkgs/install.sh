# shellcheck shell=bash
# Brings a tree of unpacked Debian packages, the current folder, into the state that installing them would leave:
#
#   install.sh ALTERNATIVES MODULES
#
# Debian's maintainer scripts need root and a running system. What they do that matters in a guest is done here.
set -euo pipefail
alternatives=$1 modules=$2

while read -r link program; do
  if [ -e "usr/bin/$program" ] || [ -L "usr/bin/$program" ]; then [ -e "usr/bin/$link" ] || ln -sf "$program" "usr/bin/$link"; fi
  if [ -e "usr/sbin/$program" ] || [ -L "usr/sbin/$program" ]; then [ -e "usr/sbin/$link" ] || ln -sf "$program" "usr/sbin/$link"; fi
done < <(grep -v '^#' "$alternatives")

if [ -d usr/share/ca-certificates ]; then
  mkdir -p etc/ssl/certs
  find usr/share/ca-certificates -name '*.crt' -print0 | LC_ALL=C sort -z | xargs -0 cat >etc/ssl/certs/ca-certificates.crt
fi

# pam-auth-update's profiles, as it writes them for a system with passwords in /etc/shadow.
mkdir -p etc/pam.d
cat >etc/pam.d/common-auth <<'PAM'
auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
PAM
cat >etc/pam.d/common-account <<'PAM'
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so
PAM
cat >etc/pam.d/common-password <<'PAM'
password [success=1 default=ignore] pam_unix.so obscure yescrypt
password requisite pam_deny.so
password required pam_permit.so
PAM
cat >etc/pam.d/common-session-noninteractive <<'PAM'
session [default=1] pam_permit.so
session requisite pam_deny.so
session required pam_permit.so
session required pam_unix.so
PAM
{
  cat etc/pam.d/common-session-noninteractive
  echo 'session optional pam_systemd.so'
} >etc/pam.d/common-session

# A guest is configured by its image: nothing of cron, SysV init, debconf or dpkg runs in it. hwdb names hardware.
rm -rf var run dev proc sys home root tmp boot mnt media srv opt
rm -rf etc/{init.d,rc?.d,cron.*,credstore*,default,dpkg,apt,kernel,init,logrotate.d,update-motd.d,systemd/system,systemd/user}
rm -rf usr/lib/{udev/hwdb.d,sysusers.d,systemd/system-preset,kernel} usr/share/{bash-completion,zsh,debconf,menu,pixmaps,bug,reportbug,info,perl5/Debconf}
# Debian's own setup of what nixvm's modules say otherwise.
rm -rf etc/{hostname,hosts,fstab,machine-id,resolv.conf,issue,issue.net,motd,ssh/sshd_config,sudoers,sudoers.d}


mkdir -p etc/alternatives
# What systemd-tmpfiles would make, or complain that it cannot.
mkdir -p etc/default
: >etc/default/keyboard
ln -s ../locale.conf etc/default/locale
ln -s default/keyboard etc/vconsole.conf
ln -s ../proc/self/mounts etc/mtab
rm -f usr/lib/tmpfiles.d/credstore.conf

rm -rf usr/lib/modules
ln -s "$modules/lib/modules" usr/lib/modules

# Without the index every program searches folder after folder for its libraries.
usr/sbin/ldconfig -r .
rm -rf var
