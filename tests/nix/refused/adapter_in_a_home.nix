{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/models/tiny.gguf";
      adapters.law.path = "/home/alice/law.gguf";
    };
  };
}
