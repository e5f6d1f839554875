{
  services.unified-llm = {
    enable = true;
    settings.dbus.address = "unix:path=/run/another/bus";
  };
}
