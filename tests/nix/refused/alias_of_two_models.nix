{
  services.unified-llm = {
    enable = true;
    models.declared = {
      small = {
        path = "/srv/small.gguf";
        aliases = [ "default" ];
      };
      large = {
        path = "/srv/large.gguf";
        aliases = [ "default" ];
      };
    };
  };
}
