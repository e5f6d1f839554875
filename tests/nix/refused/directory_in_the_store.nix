{
  services.unified-llm = {
    enable = true;
    models.directory = "${builtins.storeDir}/00000000000000000000000000000000-models";
  };
}
