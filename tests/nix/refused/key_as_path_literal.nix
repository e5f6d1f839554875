{
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      keyFile = ./key_as_path_literal.nix;
    };
  };
}
