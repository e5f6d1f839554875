# The daemon's account, and the two groups its permissions name.
{ config, lib, ... }:
let
  cfg = config.services.unified-llm;
  ownName = "unified-llm";
in
{
  config = lib.mkIf cfg.enable {
    # A static account: the bus policy and the owner of the models have to name it.
    users.users = lib.mkIf (cfg.user == ownName) {
      ${ownName} = {
        isSystemUser = true;
        inherit (cfg) group;
      };
    };

    # unified_llm.guard.permissions knows the groups by these names, whatever the daemon's own group.
    users.groups = {
      unified-llm.members = cfg.users ++ cfg.admins;
      unified-llm-admin.members = cfg.admins;
    };

    assertions = [
      {
        assertion = config.users.users ? ${cfg.user};
        message = "services.unified-llm.user: there is no users.users.${cfg.user}; declare it, or leave the option at its default.";
      }
      {
        assertion = config.users.groups ? ${cfg.group};
        message = "services.unified-llm.group: there is no users.groups.${cfg.group}; declare it, or leave the option at its default.";
      }
    ];
  };
}
