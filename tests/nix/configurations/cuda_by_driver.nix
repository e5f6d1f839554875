# The driver alone decides.
{
  hardware.nvidia.enabled = true;
  services.unified-llm.enable = true;
}
