# Why: a guest that stood still goes on with the time at which it stopped: paused by hand or by a full pool, saved to disk
# while its host restarted, or beside a host that slept. NTP sees that at its next poll, up to half an hour later, and only
# where there is a network; kvm-clock and ptp_kvm need KVM. QEMU's hardware clock follows the host's and never stands
# still, so what it gained on the guest's own time is how long the pause was. A clock that was set, by NTP or by hand, is no
# pause and stays as it is.
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
    # No process is started while nothing happens: this runs twice a second.
    script = ''
      # Reading what nobody writes to is a sleep without a process.
      exec {nothing}<> <(:)
      pause() { read -r -t "$1" -u "$nothing" || true; }

      # Sets what the hardware clock is ahead of the time since boot, in hundredths of a second; fails where reading took
      # too long to compare them.
      look() {
        local before
        read -r before _ < /proc/uptime
        read -r hardware < /sys/class/rtc/rtc0/since_epoch
        read -r uptime _ < /proc/uptime
        before=$((10#''${before/./})) uptime=$((10#''${uptime/./}))
        ahead=$((hardware * 100 - uptime))
        ((uptime - before < 10))
      }

      # Looks at the moment when the hardware clock goes on to its next second: it has no smaller units.
      tick() {
        local last=0 seen=0
        until look && ((hardware == last + 1 && uptime - seen < 20)); do
          last=$hardware seen=$uptime
          pause 0.02
        done
      }

      step() {
        local now=$((''${EPOCHREALTIME/./} + $1 * 10000))
        date --set="@$((now / 1000000)).$(printf %06d $((now % 1000000)))" > /dev/null
      }

      tick
      usual=$ahead
      while pause 0.5; do
        # Less than a second ago it was at its last full second, and pauses of less than that do not count.
        { look && ((ahead - usual >= 130 || usual - ahead >= 230)); } || continue
        gained=$((ahead - usual + 50)) stepped=0 system=$EPOCHSECONDS
        # The kernel and hwclock(8) set the hardware clock to the guest's time.
        if ((gained > 0 && (hardware - system > 1 || system - hardware > 1))); then
          stepped=$gained
          step "$stepped"
        fi
        tick
        if ((stepped)); then
          step "$((ahead - usual - stepped))"
          echo "stood still for $(((ahead - usual) / 100)) s: the clock is set"
          # Should it have been the host's clock that was set, NTP knows better.
          ${config.systemd.package}/bin/systemctl --no-block try-restart systemd-timesyncd.service || true
        fi
        usual=$ahead
      done
    '';
  };
}
