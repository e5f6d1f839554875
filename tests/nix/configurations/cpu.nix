{ services.unified-llm.enable = true; }
