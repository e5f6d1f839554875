{
  services.unified-llm = {
    enable = true;
    models.declared.tiny.path = "/home/alice/model.gguf";
  };
}
