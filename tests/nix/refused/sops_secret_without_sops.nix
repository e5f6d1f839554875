{
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      sopsSecret = "openai";
    };
  };
}
