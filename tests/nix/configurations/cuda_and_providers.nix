{
  imports = [ ./sops.nix ];
  services.unified-llm.acceleration = "cuda";
}
