{
  services.unified-llm = {
    enable = true;
    hardening.readableHome = true;
    models.declared.tiny.path = "/tmp/model.gguf";
  };
}
