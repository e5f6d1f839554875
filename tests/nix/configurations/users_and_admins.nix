{
  services.unified-llm = {
    enable = true;
    users = [ "alice" ];
    admins = [ "bob" ];
  };
}
