{
  services.unified-llm = {
    enable = true;
    providers.workstation.kind = "openai-compatible";
  };
}
