{
  imports = [ { services.unified-llm.settings.defaults.slots = 3; } ];
  services.unified-llm = {
    enable = true;
    settings.defaults.slots = 2;
  };
}
