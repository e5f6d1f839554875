{
  services.unified-llm = {
    enable = true;
    models.declared.tiny.slots = 2;
  };
}
