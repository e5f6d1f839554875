# What can be set. An option exists where Nix derives something from its value; everything else the
# daemon knows goes into `settings` as it is.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    literalMD
    mkEnableOption
    mkOption
    types
    ;
  json = pkgs.formats.json { };
in
{
  options.services.unified-llm = {
    enable = mkEnableOption "unified-llm, the daemon that owns this machine's language models";

    package = lib.mkPackageOption pkgs "unified-llm" { };

    acceleration = mkOption {
      type = types.enum [
        "none"
        "cuda"
      ];
      # Absent from older releases of NixOS.
      default = if config.hardware.nvidia.enabled or false then "cuda" else "none";
      defaultText = literalMD ''`"cuda"` where the NVIDIA driver is enabled, else `"none"`'';
      description = ''
        Which devices the service may open. Whether models are computed on them is decided by
        {option}`services.unified-llm.package`, whose llama-cpp-python is built for one or the other;
        for CUDA that is `pkgs.unified-llm.override { cudaSupport = true; }`.
      '';
    };

    user = mkOption {
      type = types.str;
      default = "unified-llm";
      description = "Account the daemon runs as. It is created when left at the default.";
    };

    group = mkOption {
      type = types.str;
      default = "unified-llm";
      description = "Primary group of the daemon.";
    };

    users = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = ''
        Users who may use the models: they join the group `unified-llm`, which may open the socket.
        Membership counts from the next login.
      '';
    };

    admins = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "bob" ];
      description = ''
        Users who may also load and unload models: they join the groups `unified-llm` and
        `unified-llm-admin`. Membership counts from the next login.
      '';
    };

    models = {
      directory = mkOption {
        type = types.nullOr types.externalPath;
        default = "/var/lib/unified-llm/models";
        description = ''
          Searched for `*.gguf` files, four levels deep; null for no search. It is created when it is
          not there, owned by the daemon's account.
        '';
      };

      declared = mkOption {
        type = types.attrsOf (types.submodule (import ./model.nix { inherit lib; }));
        default = { };
        example = literalExpression ''
          {
            coder = {
              path = "/srv/models/qwen2.5-coder-7b-instruct-q4_k_m.gguf";
              contextTokens = 16384;
            };
            smollm2 = {
              huggingFace = {
                repo = "owner/SmolLM2-135M-Instruct-GGUF";
                file = "SmolLM2-135M-Instruct.Q4_1.gguf";
              };
              sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
            };
          }
        '';
        description = "Models by the name that clients ask for.";
      };

      prune = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether each start of the daemon removes the models that somebody has imported by
          `unified-llm models import` and that are not declared. It becomes `downloads.prune` of the
          settings. Other files in the directory stay.
        '';
      };
    };

    providers = mkOption {
      type = types.attrsOf (types.submodule (import ./provider.nix { inherit lib; }));
      default = { };
      example = literalExpression ''
        {
          deepseek = {
            kind = "deepseek";
            sopsSecret = "deepseek";
          };
          workstation = {
            kind = "openai-compatible";
            url = "https://workstation.example/v1";
            keyFile = "/etc/secrets/workstation";
          };
        }
      '';
      description = ''
        Model servers elsewhere, by the name that their models begin with: a model is asked for as
        `<provider>/<model>`. The network is opened to the service as far as they need it.
      '';
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = json.type;
        options = import ./settings.nix { inherit lib; };
      };
      default = { };
      example = literalExpression ''
        {
          defaults.slots = 2;
          memory.ram_budget_bytes = 16 * 1024 * 1024 * 1024;
        }
      '';
      description = ''
        The daemon's settings, written to {file}`/etc/unified-llm/config.yaml`. The other options fill
        them at default priority, leaf by leaf: what is set here wins without `mkForce`.
        {file}`docs/reference/settings.md` lists every setting; only those that shape the service are
        options of their own.
      '';
    };

    session = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether each graphical login runs `unified-llm-session.service`, which has models make room
          while a game is registered with GameMode.
        '';
      };

      vram = mkOption {
        type = types.strMatching "[0-9]+[KMGT]";
        default = "4G";
        example = "8G";
        description = "How much memory models leave to a game; less if there is not so much.";
      };
    };

    checkConfig = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = literalMD "whether the machine that builds can run the package";
      description = ''
        Whether the settings are checked by `unified-llm config check` when the system is built, so
        that a wrong one never reaches the machine.
      '';
    };

    hardening = {
      memoryDenyWriteExecute = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether memory can never be both written and executed. Native code that generates code at
          run time needs it off; llama.cpp does not, for CPU and CUDA alike.
        '';
      };

      readableHome = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the service sees {file}`/home`, {file}`/root` and {file}`/run/user`, read-only. Needed
          for models that are kept in there.
        '';
      };

      extraDeviceAllow = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "/dev/dxg rw" ];
        description = ''
          Devices the service may open besides those of {option}`services.unified-llm.acceleration`,
          in the words of `DeviceAllow=` in {manpage}`systemd.resource-control(5)`.
        '';
      };
    };
  };
}
