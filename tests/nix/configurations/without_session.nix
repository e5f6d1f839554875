{
  services.unified-llm = {
    enable = true;
    session.enable = false;
  };
}
