{
  services.unified-llm = {
    enable = true;
    providers = {
      deepseek = {
        kind = "deepseek";
        keyFile = "/etc/secrets/50% deepseek";
        models = [ "deepseek-chat" ];
      };
      workstation = {
        kind = "openai-compatible";
        url = "https://workstation.example/v1";
        proxy = "http://proxy.example:3128";
        caFile = "/etc/secrets/workstation-ca.pem";
        connectSeconds = 2.5;
        firstEventSeconds = 120;
        betweenEventsSeconds = 90;
        totalSeconds = 1200;
      };
      retired = {
        enable = false;
        kind = "openai";
        keyFile = "/etc/secrets/openai";
      };
    };
  };
}
