{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/model.gguf";
      contextTokens = 100;
    };
  };
}
