{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/models/tiny.gguf";
      projector = "/home/alice/mmproj.gguf";
    };
  };
}
