# The settings file, the socket and the service.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.unified-llm;
  inherit (cfg) settings;

  # At a fixed place, so that a change of the settings changes no line of the unit.
  etcName = "unified-llm/config.yaml";

  # JSON is YAML.
  written = (pkgs.formats.json { }).generate "unified-llm-config.yaml" settings;
  checked = pkgs.runCommand "unified-llm-config.yaml" { } ''
    ${lib.getExe' cfg.package "unified-llm"} config check ${written}
    cp ${written} $out
  '';
  configFile = if cfg.checkConfig then checked else written;

  # What the daemon takes from the file on reload; the rest needs a restart. (With other providers
  # money and routing wait for it as well, and a change of those restarts the daemon here.)
  reloadable = [
    "models"
    "defaults"
    "downloads"
    "log"
    "money"
    "routing"
  ];

  stateDirectory = "/var/lib/unified-llm";
  ownDirectory = "${stateDirectory}/models";
  inherit (settings.models) directory;
  isForeignDirectory = directory != null && directory != ownDirectory;
in
{
  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc.${etcName}.source = configFile;

    # The daemon only reads it; whoever brings the models in decides who may write.
    systemd.tmpfiles.settings.unified-llm = lib.mkIf isForeignDirectory {
      ${directory}.d = {
        inherit (cfg) user group;
        mode = "0755";
      };
    };

    systemd.sockets.unified-llm = {
      description = "OpenAI API of the machine's language models";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ settings.socket.path ];
      socketConfig = {
        FileDescriptorName = "api";
        SocketMode = settings.socket.mode;
        SocketGroup = settings.socket.group;
        DirectoryMode = "0755";
        RemoveOnStop = true;
      };
    };

    systemd.services.unified-llm = {
      description = "Daemon that owns the machine's language models";
      wantedBy = [ "multi-user.target" ];
      requires = [ "unified-llm.socket" ];
      after = [
        "unified-llm.socket"
      ]
      # DeviceAllow= looks device groups up in /proc/devices when the service starts.
      ++ lib.optional (cfg.acceleration == "cuda") "systemd-modules-load.service";
      unitConfig = lib.optionalAttrs isForeignDirectory { RequiresMountsFor = directory; };

      # Loaded models live through a reload.
      reloadTriggers = [ configFile ];
      restartTriggers = [
        (builtins.hashString "sha256" (builtins.toJSON (removeAttrs settings reloadable)))
      ];

      serviceConfig = {
        Type = "notify-reload";
        NotifyAccess = "main";
        ExecStart = "${lib.getExe' cfg.package "unified-llmd"} --config /etc/${etcName}";
        WatchdogSec = 30;
        Restart = "on-failure";
        RestartSec = 2;
        # The settings are wrong: trying again does not help.
        RestartPreventExitStatus = 78;
        # Running answers are waited for, then workers; the rest is for a slow machine.
        TimeoutStopSec = builtins.ceil (
          settings.scheduler.drain_seconds + settings.scheduler.stop_seconds + 25
        );
        User = cfg.user;
        Group = cfg.group;
        StateDirectory = [
          "unified-llm"
        ]
        ++ lib.optional (directory == ownDirectory) "unified-llm/models";
        StateDirectoryMode = "0750";
        CacheDirectory = "unified-llm";
        CacheDirectoryMode = "0700";
        # No RuntimeDirectory: systemd would remove it with the socket in it when the service stops,
        # while the socket unit still looks active.
        UMask = "0077";
        # The kernel picks a worker; the daemon reports it and goes on.
        OOMPolicy = "continue";
        LimitMEMLOCK = "infinity";
        # A core file would hold prompts.
        LimitCORE = 0;
      };
    };

    # Nothing else loads it on a machine without a display (nixpkgs #334180).
    boot.kernelModules = lib.mkIf (cfg.acceleration == "cuda") [ "nvidia_uvm" ];
  };
}
