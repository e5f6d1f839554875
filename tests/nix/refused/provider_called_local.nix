{
  services.unified-llm = {
    enable = true;
    providers.local.kind = "ollama";
  };
}
