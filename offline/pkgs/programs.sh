# shellcheck shell=bash disable=SC2154 # a derivation's attributes are variables here
# Unpacks the Debian packages $archives to $out: what builders have as /usr. Nothing is there yet but busybox:
#
#   programs.sh BUSYBOX ALTERNATIVES
set -euo pipefail
umask 022
busybox=$1 alternatives=$2

"$busybox" mkdir -p "$out/usr/bin"
for archive in $archives; do
  for member in $("$busybox" ar t "$archive"); do
    case $member in
    data.tar.xz) unpack=unxz ;;
    data.tar.gz) unpack=gunzip ;;
    data.tar) unpack='cat' ;;
    *) continue ;;
    esac
    "$busybox" ar p "$archive" "$member" | "$busybox" "$unpack" | "$busybox" tar -x -o -C "$out" -f - ./usr
  done
done
for part in doc man info locale lintian bug; do "$busybox" rm -rf "$out/usr/share/$part"; done

while read -r link program; do
  if [ -e "$out/usr/bin/$program" ] && [ ! -e "$out/usr/bin/$link" ]; then "$busybox" ln -s "$program" "$out/usr/bin/$link"; fi
done < <("$busybox" grep -v '^#' "$alternatives")
