{
  services.unified-llm = {
    enable = true;
    models.declared = {
      by-url = {
        url = "https://models.example.org/tiny.gguf";
        sha256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
      };
      "by/hugging:face" = {
        huggingFace = {
          repo = "owner/name";
          file = "folder/model.Q4_1.gguf";
        };
        sha256 = "sha256-gy2waZAH8b6VqX5B7xLoiSawK6g2RhQ2o2NyLbp2GsoI4=";
        contextTokens = 2048;
      };
      pinned-revision = {
        huggingFace = {
          repo = "owner/name";
          file = "model.gguf";
          revision = "0123abc";
        };
        sha256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
      };
    };
  };
}
