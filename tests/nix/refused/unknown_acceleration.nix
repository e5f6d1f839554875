{
  services.unified-llm = {
    enable = true;
    acceleration = "rocm";
  };
}
