{
  services.unified-llm = {
    enable = true;
    providers.neighbour = {
      kind = "openai-compatible";
      socket = "/run/neighbour/api.sock";
    };
  };
}
