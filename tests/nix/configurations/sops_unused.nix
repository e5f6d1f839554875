{
  imports = [ ../sops_nix.nix ];
  services.unified-llm = {
    enable = true;
    providers.ollama.kind = "ollama";
  };
}
