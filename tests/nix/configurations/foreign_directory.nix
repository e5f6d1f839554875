{
  services.unified-llm = {
    enable = true;
    models.directory = "/srv/models";
  };
}
