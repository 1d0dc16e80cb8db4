# shellcheck shell=bash disable=SC2154,SC2048,SC1090 # a derivation's attributes are variables here
# Runs one derivation of the offline base, in the root that enter.sh gave it: the environment every builder has, then its command.
set -euo pipefail
umask 022
unset CDPATH

if [ -n "${NIX_ATTRS_SH_FILE-}" ]; then
  . "$NIX_ATTRS_SH_FILE"
  for output in "${!outputs[@]}"; do export "$output=${outputs[$output]}"; done
fi
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
for input in ${nativeBuildInputs[*]-} ${buildInputs[*]-}; do
  if [ -d "$input/bin" ]; then PATH=$input/bin:$PATH; fi
done
# Builds give the same bytes everywhere.
export LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH=315532800
export HOME=/homeless-shelter

if [ -n "${buildCommandPath-}" ]; then
  . "$buildCommandPath"
else
  eval "$buildCommand"
fi
