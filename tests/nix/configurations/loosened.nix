{
  services.unified-llm = {
    enable = true;
    models.declared.mine.path = "/home/alice/model.gguf";
    hardening = {
      memoryDenyWriteExecute = false;
      readableHome = true;
      extraDeviceAllow = [ "/dev/dxg rw" ];
    };
  };
}
