{
  services.unified-llm = {
    enable = true;
    models.declared."my model".path = "/srv/model.gguf";
  };
}
