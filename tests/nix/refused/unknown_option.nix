{
  services.unified-llm = {
    enable = true;
    vram.reserve = 3;
  };
}
