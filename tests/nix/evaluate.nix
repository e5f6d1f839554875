# What a machine with this configuration would have, as data:
#
#   nix-instantiate --eval --strict --json evaluate.nix --arg configuration ./configurations/cpu.nix -A machine
{
  configuration ? { },
  libPath ? ./minilib,
}:
let
  lib = import libPath;
  pkgs = import ./packages.nix { inherit lib; };
  evaluated = lib.evalModules {
    class = "nixos";
    specialArgs = { inherit pkgs; };
    modules = [
      ./nixos.nix
      ../../nixos-module
      configuration
    ];
  };
  inherit (evaluated) config;
  text = import ./unit_text.nix { inherit lib; };
  refusals = map (each: each.message) (lib.filter (each: !each.assertion) config.assertions);
in
{
  # As on NixOS, nothing else is looked at when an assertion fails.
  machine =
    if refusals != [ ] then
      { inherit refusals; }
    else
      {
        inherit refusals;
        inherit (config) warnings;
        inherit (config.services.unified-llm) settings;
        inherit (config.boot) kernelModules;
        inherit (config.users) users groups;
        units =
          lib.mapAttrs' (name: unit: lib.nameValuePair "${name}.service" (text.service unit)) config.systemd.services
          // lib.mapAttrs' (name: unit: lib.nameValuePair "${name}.socket" (text.socket unit)) config.systemd.sockets;
        userUnits = lib.mapAttrs' (
          name: unit: lib.nameValuePair "${name}.service" (text.service unit)
        ) config.systemd.user.services;
        triggers = lib.mapAttrs (_: unit: {
          reload = map toString unit.reloadTriggers;
          restart = map toString unit.restartTriggers;
        }) config.systemd.services;
        etc = lib.mapAttrs (_: file: {
          text = file.source.text or null;
          script = file.source.script or null;
        }) config.environment.etc;
        tmpfiles = config.systemd.tmpfiles.settings;
        secrets = (config.sops or { secrets = { }; }).secrets;
        dbusFiles = lib.foldl' (files: package: files // package.files) { } config.services.dbus.packages;
        isPolkitOn = config.security.polkit.enable;
        polkitFiles = lib.foldl' (files: package: files // (package.files or { })) { } config.environment.systemPackages;
        systemPackages = map (package: package.name) config.environment.systemPackages;
      };

  options = lib.filter (
    option: option.visible && !option.internal && lib.hasPrefix "services.unified-llm" option.name
  ) (lib.optionAttrSetToDocList evaluated.options);
}
