{
  services.unified-llm = {
    enable = true;
    models.directory = "/home/alice/models";
  };
}
