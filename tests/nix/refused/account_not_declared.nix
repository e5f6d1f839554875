{
  services.unified-llm = {
    enable = true;
    user = "llm";
  };
}
