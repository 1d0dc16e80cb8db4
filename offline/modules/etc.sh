# shellcheck shell=bash disable=SC2154,SC2164,SC2103 # read by builder.sh under set -e; a derivation's attributes are variables here
# Makes the erofs image of /etc from three tables: texts, sources and modes, each by path.
mkdir etc
cd etc
for path in "${!texts[@]}"; do
  mkdir -p "$(dirname "./$path")"
  printf %s "${texts[$path]}" >"./$path"
  chmod 0644 "./$path"
done
for path in "${!sources[@]}"; do
  mkdir -p "$(dirname "./$path")"
  if [ -n "${modes[$path]-}" ]; then
    cp -r --no-preserve=mode "${sources[$path]}" "./$path"
  else
    ln -s "${sources[$path]}" "./$path"
  fi
done
for path in "${!modes[@]}"; do
  # A mode without a text or a source is one of a file that is not there.
  if [ -f "./$path" ]; then chmod "${modes[$path]}" "./$path"; fi
done
cd ..
# The image is compressed, so its texts are looked at here.
echo etc | bash "$checkPrograms"
block=()
# Newer mkfs.erofs takes the builder's page size; a guest with smaller pages could not mount that.
if mkfs.erofs --help 2>&1 | grep -q '^ *-b#'; then block=(-b4096); fi
mkfs.erofs --quiet "${block[@]}" -zlz4 -T1 -x-1 --all-root -U 6e697876-6d65-4374-8500-000000000001 "$out" etc
