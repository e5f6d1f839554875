{
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      keyFile = "sk-example";
    };
  };
}
