# shellcheck shell=bash disable=SC2154,SC2164 # read by builder.sh under set -e; a derivation's attributes are variables here
# Makes the folder /etc/systemd/system from: texts and strategies by unit, links (place -> unit), masked units.
mkdir -p "$out"
cd "$out"
for unit in "${!texts[@]}"; do
  file=$unit
  # A unit that Debian brings is added to, not replaced, where a module only gives it some settings.
  case ${strategies[$unit]} in
  dropin) file=$unit.d/overrides.conf ;;
  dropin-if-exists) if [ -e "$debianUnits/$unit" ]; then file=$unit.d/overrides.conf; fi ;;
  esac
  mkdir -p "$(dirname "$file")"
  printf %s "${texts[$unit]}" >"$file"
done
for unit in "${masked[@]}"; do
  ln -sf /dev/null "$unit"
done
for place in "${!links[@]}"; do
  unit=${links[$place]}
  mkdir -p "$(dirname "$place")"
  if [ -e "$unit" ]; then
    case $place in */*) ln -sf "../$unit" "$place" ;; *) ln -sf "$unit" "$place" ;; esac
  else
    # A template's instance has the template's file.
    ln -sf "/usr/lib/systemd/system/${unit/@*./@.}" "$place"
  fi
done
ln -sf /usr/lib/systemd/system/multi-user.target default.target
