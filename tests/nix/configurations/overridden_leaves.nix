# Every leaf that an option fills may be set in `settings`, without mkForce and without its neighbours.
{
  services.unified-llm = {
    enable = true;
    models.declared.tiny = {
      path = "/srv/models/tiny.gguf";
      slots = 8;
      contextTokens = 2048;
    };
    settings = {
      models.tiny.slots = 1;
      models.directory = "/srv/models";
      socket.mode = "0666";
      socket.max_connections = 10;
      scheduler.drain_seconds = 120;
      scheduler.queue_limit = 8;
      memory.ram_budget_bytes = 16 * 1024 * 1024 * 1024;
      defaults.keep_alive_seconds = null;
      log.level = "debug";
      routing.routes.smart = {
        targets = [ "tiny" ];
        rules = [
          {
            when.until_time = "06:00";
            strategy = "in-order";
          }
          {
            when.tools = true;
            strategy = "round-robin";
          }
        ];
      };
    };
  };
}
