{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/model.gguf";
      url = "https://models.example.org/model.gguf";
    };
  };
}
