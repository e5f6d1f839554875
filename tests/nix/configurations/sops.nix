# Two providers share a secret; somebody says more about it.
{
  imports = [ ../sops_nix.nix ];
  sops.secrets.renamed.name = "another";
  services.unified-llm = {
    enable = true;
    providers = {
      deepseek = {
        kind = "deepseek";
        sopsSecret = "deepseek";
      };
      proxied = {
        kind = "openai-compatible";
        url = "https://proxy.example/v1";
        sopsSecret = "deepseek";
      };
      openai = {
        kind = "openai";
        sopsSecret = "renamed";
      };
    };
  };
}
