{
  services.unified-llm = {
    enable = true;
    group = "llm";
  };
}
