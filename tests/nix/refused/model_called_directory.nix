{
  services.unified-llm = {
    enable = true;
    models.declared.directory.path = "/srv/model.gguf";
  };
}
