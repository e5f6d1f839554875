# Several modules speak of the same options, with priorities and conditions.
{ config, lib, ... }:
{
  imports = [
    {
      services.unified-llm.users = [ "alice" ];
      services.unified-llm.settings.log.level = "debug";
      services.unified-llm.settings.defaults.slots = lib.mkDefault 2;
    }
    (
      { lib, ... }:
      {
        services.unified-llm = lib.mkMerge [
          { users = [ "carol" ]; }
          (lib.mkIf false { users = [ "nobody" ]; })
        ];
      }
    )
  ];
  services.unified-llm = {
    enable = lib.mkDefault true;
    settings.log.level = lib.mkForce "warning";
    settings.defaults.slots = lib.mkIf config.services.unified-llm.enable 3;
    models.declared.one = lib.mkIf config.services.unified-llm.enable { path = "/srv/one.gguf"; };
  };
}
