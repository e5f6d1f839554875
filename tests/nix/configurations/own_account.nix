{
  users.users.llm = {
    isSystemUser = true;
    group = "llm";
  };
  users.groups.llm = { };
  services.unified-llm = {
    enable = true;
    user = "llm";
    group = "llm";
  };
}
