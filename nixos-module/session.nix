# The helper of each login: it watches GameMode on the session bus, where the daemon may not look, and
# has models make room while a game runs.
{ config, lib, ... }:
let
  cfg = config.services.unified-llm;
  inherit (cfg) settings;
in
{
  # It speaks to the daemon over the system bus.
  config = lib.mkIf (cfg.enable && cfg.session.enable && settings.dbus.enabled && settings.dbus.address == null) {
    systemd.user.services.unified-llm-session = {
      description = "Keeps memory free of language models while a game runs";
      wantedBy = [ "graphical-session.target" ];
      after = [ "graphical-session.target" ];
      unitConfig.PartOf = "graphical-session.target";

      serviceConfig = {
        Type = "notify";
        ExecStart = "${lib.getExe' cfg.package "unified-llm"} session --vram ${cfg.session.vram}";
        Restart = "on-failure";
        RestartSec = 5;
        UMask = "0077";
        LimitCORE = 0;

        # Only what a user's manager can do by itself, without a user namespace: some systems forbid
        # those, and the service would not start there.
        NoNewPrivileges = true;
        RestrictSUIDSGID = true;
        RestrictRealtime = true;
        RestrictNamespaces = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
          "~@resources"
        ];
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
