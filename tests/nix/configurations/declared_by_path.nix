{
  services.unified-llm = {
    enable = true;
    models.prune = true;
    models.declared = {
      "qwen/coder:7b" = {
        path = "/srv/models/coder.gguf";
        contextTokens = 16384;
        slots = 2;
        threads = 8;
        keepAliveSeconds = 900.5;
        projector = "/srv/models/mmproj.gguf";
        adapters = {
          law = {
            path = "/srv/models/law.gguf";
            scale = 0.5;
          };
          poetry.path = "/srv/models/poetry.gguf";
        };
      };
      always = {
        path = "/var/lib/unified-llm/models/always.gguf";
        keepAliveSeconds = "forever";
        pinned = true;
        preload = true;
        aliases = [
          "default"
          "gpt-4o-mini"
        ];
      };
    };
  };
}
