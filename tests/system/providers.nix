# What booted.sh runs after the static unit: a second model, a provider whose key comes from SOPS, and one
# whose key is not there.
{
  imports = [
    ../nix/sops_nix.nix
    ../../nixos-module/elsewhere.nix
  ];
  services.unified-llm = {
    models.declared.smollm2 = {
      path = "/srv/models/smollm2.gguf";
      contextTokens = 256;
    };
    providers = {
      elsewhere = {
        kind = "openai-compatible";
        url = "http://127.0.0.1:18439/v1";
        sopsSecret = "elsewhere";
      };
      keyless = {
        kind = "openai-compatible";
        url = "http://127.0.0.1:18439/v1";
        keyFile = "/etc/secrets/keyless";
        models = [ "echo" ];
      };
    };
  };
}
