{
  services.unified-llm = {
    enable = true;
    acceleration = "cuda";
  };
}
