# What polkit is told of the daemon: its actions, and what its groups may. From here and not from the
# package, because the actions name the account that may ask polkit about others.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.unified-llm;
  source = ../polkit;

  actions = builtins.replaceStrings [ "unix-user:unified-llm" ] [ "unix-user:${cfg.user}" ] (
    builtins.readFile (source + "/org.unifiedllm1.policy")
  );
  rules = builtins.readFile (source + "/org.unifiedllm1.rules");
in
{
  config =
    lib.mkIf (cfg.enable && cfg.settings.dbus.enabled && cfg.settings.dbus.authority == "polkit")
      {
        security.polkit.enable = true;

        # NixOS lets polkit read share/polkit-1 of the system's packages.
        environment.systemPackages = [
          (pkgs.writeTextDir "share/polkit-1/actions/org.unifiedllm1.policy" actions)
          (pkgs.writeTextDir "share/polkit-1/rules.d/60-org.unifiedllm1.rules" rules)
        ];
      };
}
