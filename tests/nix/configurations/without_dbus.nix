{
  services.unified-llm = {
    enable = true;
    settings.dbus.enabled = false;
  };
}
