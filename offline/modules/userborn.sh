# Writes /run/userborn/shadow from a table of accounts: NAME, a tab, and a hash or `file:` with the path of one.
#
# A file that is missing or empty locks the account: a password that was taken back must not go on working.
set -euo pipefail
folder=/run/userborn
mkdir -p -m 0755 "$folder"
while IFS=$'\t' read -r name hash; do
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
  # An empty field would let everyone in; a colon or a line break would make another field or line of it.
  case $hash in '' | *:*) hash='!*' ;; esac
  printf '%s:%s:1::::::\n' "$name" "$hash"
done <"$1" >"$folder/shadow.new"
chown root:shadow "$folder/shadow.new"
chmod 0640 "$folder/shadow.new"
mv "$folder/shadow.new" "$folder/shadow"
