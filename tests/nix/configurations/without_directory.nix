{
  services.unified-llm = {
    enable = true;
    models.directory = null;
    models.declared.one.path = "/srv/one.gguf";
  };
}
