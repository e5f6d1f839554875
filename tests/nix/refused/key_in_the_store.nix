{
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      keyFile = "${builtins.storeDir}/00000000000000000000000000000000-key";
    };
  };
}
