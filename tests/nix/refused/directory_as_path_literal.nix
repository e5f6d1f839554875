{
  services.unified-llm = {
    enable = true;
    models.directory = ./.;
  };
}
