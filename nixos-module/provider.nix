# One model server elsewhere. Null always means that the daemon decides
# (docs/reference/settings.md has its defaults).
{ lib }:
let
  inherit (lib) mkOption types;
  setting =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  # A day, as everywhere in the daemon's schema.
  seconds = types.numbers.between 0 86400;
in
{
  options = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the daemon knows this provider.";
    };

    kind = mkOption {
      type = types.enum [
        "openai"
        "openai-responses"
        "deepseek"
        "anthropic"
        "ollama"
        "openai-compatible"
      ];
      example = "deepseek";
      description = ''
        The API it speaks. `openai` is OpenAI's chat completions, `openai-responses` its newer API;
        `openai-compatible` is vLLM, TGI, llama-server, SGLang, another unified-llm and the like.
      '';
    };

    url = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "https://workstation.example/v1";
      description = ''
        Address below which its API is; null for that of the provider. `openai-compatible` has none
        of its own and needs this or `socket`.
      '';
    };

    socket = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      description = "Unix socket to connect to, instead of the host in `url`; it needs no network.";
    };

    keyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/secrets/deepseek";
      description = ''
        File that holds the provider's key. systemd reads it when the service starts and hands it over
        as a credential: it may belong to root alone, and never gets into the Nix store, which is why a
        path literal is refused. Without the file the provider is off, and the status says so.
      '';
    };

    sopsSecret = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "deepseek";
      description = ''
        Name of the secret in {option}`sops.secrets` to take the key from, instead of `keyFile`. It is
        declared there, and a new version of it restarts the service. Needs sops-nix.
      '';
    };

    models = setting (types.listOf types.str) "Its models that may be asked, by its names; null to ask it which it has.";

    reasoningSummary = setting types.bool "Have its models tell a summary of what they think; only `openai-responses` can ask for one.";

    proxy = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "http://proxy:3128";
      description = "HTTP proxy to reach it through. Environment variables name none.";
    };

    caFile = setting types.path "Certificate authorities it is trusted by, in PEM; null for the system's.";

    connectSeconds = setting seconds "Longest wait for a connection, TLS included, in seconds.";

    firstEventSeconds = setting seconds "Longest wait for the first content of an answer, in seconds.";

    betweenEventsSeconds = setting seconds "Longest pause within an answer, in seconds. Comments that keep it alive do not count.";

    totalSeconds = setting seconds "Longest time of a whole answer, in seconds.";
  };
}
