{
  imports = [ ../sops_nix.nix ];
  services.unified-llm = {
    enable = true;
    providers.openai = {
      kind = "openai";
      keyFile = "/etc/secrets/openai";
      sopsSecret = "openai";
    };
  };
}
