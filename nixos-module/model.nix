# One declared model: where its file comes from, and how it is run. Null always means that the daemon
# decides, by its section `defaults`.
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
in
{
  options = {
    path = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/srv/models/model.gguf";
      description = ''
        The model's GGUF file on this machine. Write it as a string: a path literal, without quotes,
        is copied into the Nix store.
      '';
    };

    url = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Address of the model's GGUF file, fetched by Nix when the system is built.";
    };

    huggingFace = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            repo = mkOption {
              type = types.strMatching "[^/]+/[^/]+";
              example = "owner/name";
              description = "Repository, as `owner/name`.";
            };
            file = mkOption {
              type = types.str;
              example = "model.Q4_K_M.gguf";
              description = "File in the repository.";
            };
            revision = mkOption {
              type = types.str;
              default = "main";
              description = "Branch, tag or commit. The file is pinned by its hash whatever this says.";
            };
          };
        }
      );
      default = null;
      description = "A GGUF file on Hugging Face, fetched by Nix when the system is built.";
    };

    sha256 = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        Hash of a fetched file, in any form that Nix reads; Hugging Face shows the hexadecimal one on
        the file's page.
      '';
    };

    aliases = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "gpt-4o-mini" ];
      description = ''
        Other names that the model is asked for by. They become `routing.aliases` of the settings.
      '';
    };

    contextTokens = setting (types.ints.between 256 1048576) ''
      Context of one conversation, in tokens. Capped to what the model was trained with, and to 2048
      where the model makes vectors of whole texts.
    '';

    slots = setting (types.ints.between 1 64) "Conversations decoded at the same time; each has a context of its own.";

    threads = setting (types.ints.between 1 1024) "CPU threads of the worker.";

    keepAliveSeconds = setting (types.either (types.enum [ "forever" ]) (
      types.numbers.between 1 31536000
    )) "Idle time in seconds after which the model leaves memory, or `\"forever\"` to keep it.";

    cacheType = setting (types.enum [
      "f32"
      "f16"
      "bf16"
      "q8_0"
      "q5_1"
      "q5_0"
      "q4_1"
      "q4_0"
      "iq4_nl"
    ]) "How keys and values are kept; smaller ones save memory and lose precision.";

    minimumContextTokens = setting (types.ints.between 256 1048576) "Down to which the context is cut where memory is short, in tokens.";

    gpu = setting (types.enum [
      "auto"
      "off"
      "required"
    ]) ''
      Whether the model is computed on GPUs: as far as it fits there, not at all, or rather not loaded
      than computed in main memory.
    '';

    speculation = setting (types.enum [
      "auto"
      "off"
      "prompt-lookup"
    ]) ''
      Whether tokens are drafted from what came before in the same conversation (`prompt-lookup`), and
      computed before it is known that they come next: `auto` does so where it measures faster. It
      changes the speed of answers, not their text.
    '';

    priority = setting (types.ints.between 0 100) ''
      When other programs need memory, the model with the lowest priority leaves first; of models that
      wait for memory the one with the highest is loaded first, within `scheduler.ageing_seconds`. How
      it weighs between models: `scheduler.eviction`.
    '';

    pinned = mkOption {
      type = types.bool;
      default = false;
      description = "Never evict this model to make room for another.";
    };

    projector = setting types.path ''
      GGUF file (mmproj) that makes the model see images, made for this model. Write it as a string,
      or fetch it with `pkgs.fetchurl`.
    '';

    adapters = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            path = mkOption {
              type = types.path;
              example = "/srv/models/law.gguf";
              description = ''
                The adapter's GGUF file, made for this model. Write it as a string, or fetch it with
                `pkgs.fetchurl`.
              '';
            };
            scale = setting (types.numbers.between 1.0e-3 10) "How strongly it is applied.";
          };
        }
      );
      default = { };
      description = ''
        LoRA adapters by name; they are loaded with the model. Who asks for `<model>:<name>` is
        answered with it.
      '';
    };

    preload = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Load this model when the daemon starts, before anybody asks for it. It leaves memory like any
        other. `keepAliveSeconds = "forever"` keeps it.
      '';
    };
  };
}
