# The options of NixOS that the module writes to or reads, and nothing else of NixOS. Types and merging
# are NixOS's own as far as the module can tell.
{ lib, ... }:
let
  inherit (lib) mkOption types;

  option =
    type: default:
    mkOption {
      inherit type default;
    };
  listOfNames = option (types.listOf types.str) [ ];
  anything = option (types.attrsOf types.unspecified) { };

  # As in nixpkgs' systemd options: lists are joined, everything else must agree.
  directive = lib.mkOptionType {
    name = "systemd option";
    merge =
      path: definitions:
      let
        values = map (definition: definition.value) definitions;
      in
      if lib.any lib.isList values then
        lib.concatMap lib.toList values
      else if lib.all (value: value == lib.head values) values then
        lib.head values
      else
        throw "The option `${lib.concatStringsSep "." path}' has conflicting definition values.";
  };
  directives = option (types.attrsOf directive) { };

  unit =
    section: more:
    types.attrsOf (
      types.submodule {
        options = {
          description = option types.str "";
          unitConfig = directives;
          ${section} = directives;
          after = listOfNames;
          requires = listOfNames;
          wantedBy = listOfNames;
        }
        // more;
      }
    );
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    warnings = listOfNames;
    boot.kernelModules = listOfNames;
    environment.etc = anything;
    environment.systemPackages = option (types.listOf types.package) [ ];
    hardware.nvidia.enabled = option types.bool false;
    nixpkgs.config = anything;
    nixpkgs.overlays = option (types.listOf types.unspecified) [ ];
    security.polkit.enable = option types.bool false;
    services.dbus.packages = option (types.listOf types.package) [ ];
    systemd.services = option (unit "serviceConfig" {
      reloadTriggers = option (types.listOf types.unspecified) [ ];
      restartTriggers = option (types.listOf types.unspecified) [ ];
    }) { };
    systemd.sockets = option (unit "socketConfig" { listenStreams = listOfNames; }) { };
    systemd.user.services = option (unit "serviceConfig" { }) { };
    systemd.tmpfiles.settings = anything;
    users.users = option (types.attrsOf (
      types.submodule {
        options = {
          isSystemUser = option types.bool false;
          isNormalUser = option types.bool false;
          group = option types.str "";
        };
      }
    )) { };
    users.groups = option (types.attrsOf (types.submodule { options.members = listOfNames; })) { };
  };
}
