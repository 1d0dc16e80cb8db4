# shellcheck shell=sh
# Writes /run/userborn/shadow from a table of accounts: NAME, a tab, and a hash or `file:` with the path of one.
#
# A file that is missing or empty locks the account: a password that was taken back must not go on working.
set -eu
shadow=/run/userborn/shadow
tab=$(printf '\t')
while IFS=$tab read -r name hash; do
  case $hash in
  file:*)
    file=${hash#file:}
    hash=
    if [ -r "$file" ]; then
      read -r hash <"$file" || true
    else
      echo "$name: no file $file; the account's password is locked" >&2
    fi
    ;;
  esac
  # An empty field would let everyone in; a colon would begin another field.
  case $hash in '' | *:*) hash='!*' ;; esac
  printf '%s:%s:1::::::\n' "$name" "$hash"
done <"$1" >"$shadow.new"
mv "$shadow.new" "$shadow"
