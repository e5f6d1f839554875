{
  services.unified-llm = {
    enable = true;
    settings.socket.mode = "rw-rw----";
  };
}
