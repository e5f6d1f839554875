{
  services.unified-llm = {
    enable = true;
    providers.other.kind = "other";
  };
}
