# Why: after a pause a guest resumes with the time at which it stopped: it was suspended by hand or by a full pool, saved to
# disk while its host restarted, or its host slept. NTP notices at its next poll, up to half an hour later, and only
# with a network; kvm-clock and ptp_kvm need KVM. QEMU's hardware clock follows the host's and never pauses, so its lead
# over the guest's own time is the length of the pause. If NTP or a person sets the clock, that is no pause, and the clock
# stays as it is.
{ config, pkgs, ... }:
{
  systemd.services.nixvm-clock = {
    description = "Set the clock after a pause";
    wantedBy = [ "multi-user.target" ];
    unitConfig.ConditionPathExists = "/sys/class/rtc/rtc0/since_epoch";
    serviceConfig = {
      Restart = "on-failure";
      CapabilityBoundingSet = "CAP_SYS_TIME";
    };
    environment.LC_ALL = "C";
    path = [ pkgs.coreutils ];
    # Starts no process in normal times, because it loops three times in two seconds.
    script = ''
      # Reading what nobody writes to is a sleep without a process.
      exec {nothing}<> <(:)
      pause() { read -r -t "$1" -u "$nothing" || true; }

      # Sets what the hardware clock is ahead of the time since boot, in hundredths of a second. It counts whole seconds, so
      # that is up to one second too little. Fails where reading took too long to compare them.
      look() {
        local before uptime
        read -r before _ < /proc/uptime
        read -r hardware < /sys/class/rtc/rtc0/since_epoch
        read -r uptime _ < /proc/uptime
        before=$((10#''${before/./})) uptime=$((10#''${uptime/./}))
        ahead=$((hardware * 100 - uptime))
        ((uptime - before < 10))
      }

      # Ahead of the time now, whatever it takes to start date(1).
      step() { date --set="$(printf '%d.%02d seconds' $(($1 / 100)) $(($1 % 100)))" > /dev/null; }

      # Of what the hardware clock is ahead: the most that was seen, and what the clock has been set for.
      usual= right= looks=0 stepped=
      while pause 0.7; do
        look || continue
        usual=''${usual:-$ahead} gained=$((ahead - usual))
        if ((gained >= 130 || gained <= -230)); then
          system=$EPOCHSECONDS
          # The kernel and hwclock(8) set the hardware clock to the guest's time: that is no pause.
          if ((gained > 0 && (hardware - system > 1 || system - hardware > 1))); then
            step $((ahead - right))
            stepped=1
            echo "stood still for about $((gained / 100)) s: the clock is set"
            # Should it have been the host's clock that was set, NTP knows better.
            ${config.systemd.package}/bin/systemctl --no-block try-restart systemd-timesyncd.service || true
          else
            stepped=
          fi
          usual=$ahead right=$ahead looks=0
        elif ((looks < 10)); then
          # Ten looks, a tenth of a second apart in the hardware clock's second, come near to its beginning.
          looks=$((looks + 1))
          if ((gained > 0)); then usual=$ahead; fi
          # What a pause still lacks is made up at the end of them, or with the next pause.
          if [[ ! $stepped ]]; then
            right=$usual
          elif ((looks == 10)); then
            step $((usual - right))
            right=$usual stepped=
          fi
        fi
      done
    '';
  };
}
