{
  services.unified-llm = {
    enable = true;
    models.declared.tiny.url = "https://models.example.org/model.gguf";
  };
}
