{
  services.unified-llm = {
    enable = true;
    providers = {
      ollama.kind = "ollama";
      vllm = {
        kind = "openai-compatible";
        url = "http://[::1]:8000/v1";
      };
      tunnel = {
        kind = "deepseek";
        proxy = "http://127.0.0.1:3128";
      };
    };
  };
}
