{
  services.unified-llm = {
    enable = true;
    providers.OpenAI.kind = "openai";
  };
}
