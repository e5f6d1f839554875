{ services.unified-llm.models.declared."not a model id" = { }; }
