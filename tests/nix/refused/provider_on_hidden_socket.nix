{
  services.unified-llm = {
    enable = true;
    providers.neighbour = {
      kind = "openai-compatible";
      socket = "/run/user/1000/api.sock";
    };
  };
}
