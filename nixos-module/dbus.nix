# The bus policy and the activation file. They come from here and not from the package, because the
# policy names the account that may own the bus name.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.unified-llm;
  data = ../daemon/data;

  policy = builtins.replaceStrings [ ''user="unified-llm"'' ] [ ''user="${cfg.user}"'' ] (
    builtins.readFile (data + "/org.unifiedllm1.conf")
  );
  activation = builtins.readFile (data + "/org.unifiedllm1.service");
in
{
  config = lib.mkIf (cfg.enable && cfg.settings.dbus.enabled) {
    services.dbus.packages = [
      (pkgs.writeTextDir "share/dbus-1/system.d/org.unifiedllm1.conf" policy)
      (pkgs.writeTextDir "share/dbus-1/system-services/org.unifiedllm1.service" activation)
    ];

    # Only for the system bus does systemd know the name.
    systemd.services.unified-llm.serviceConfig = lib.mkIf (cfg.settings.dbus.address == null) {
      BusName = "org.unifiedllm1";
    };
  };
}
