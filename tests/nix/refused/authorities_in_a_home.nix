{
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      caFile = "/home/alice/ca.pem";
    };
  };
}
