{
  services.unified-llm = {
    enable = true;
    checkConfig = false;
  };
}
