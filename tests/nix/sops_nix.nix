# The part of sops-nix's module that ours writes to or reads, as it is documented there.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.sops.secrets = mkOption {
    default = { };
    type = types.attrsOf (
      types.submodule (
        { config, name, ... }:
        {
          options = {
            name = mkOption {
              type = types.str;
              default = name;
            };
            path = mkOption {
              type = types.str;
              default = "/run/secrets/${config.name}";
            };
            restartUnits = mkOption {
              type = types.listOf types.str;
              default = [ ];
            };
          };
        }
      )
    );
  };
}
