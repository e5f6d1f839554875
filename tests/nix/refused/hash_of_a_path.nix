{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/model.gguf";
      sha256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
    };
  };
}
