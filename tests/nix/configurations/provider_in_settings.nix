# Without an option: the sandbox goes by what the daemon will read.
{
  services.unified-llm = {
    enable = true;
    settings.providers.ollama = {
      kind = "ollama";
      url = "http://localhost.example:11434";
    };
  };
}
