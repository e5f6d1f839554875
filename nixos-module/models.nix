# Declared models: fetched by Nix where asked, checked, and filled into the settings.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.unified-llm;
  inherit (cfg.models) declared;

  # unified_llm.domain.models.MODEL_ID_PATTERN
  isModelId = name: builtins.match "[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}" name != null;

  isFetched = model: model.url != null || model.huggingFace != null;

  urlOf =
    model:
    if model.url != null then
      model.url
    else
      let
        inherit (model.huggingFace) repo revision file;
      in
      "https://huggingface.co/${repo}/resolve/${revision}/${file}";

  # Every character of a model id may stand in the name of a store path, but for these two.
  storeName = name: builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] name + ".gguf";

  fileOf =
    name: model:
    if isFetched model then
      pkgs.fetchurl {
        name = storeName name;
        url = urlOf model;
        inherit (model) sha256;
      }
    else
      model.path;

  settingsOf =
    name: model:
    lib.filterAttrs (_: value: value != null) {
      path = if fileOf name model == null then null else "${fileOf name model}";
      context_tokens = model.contextTokens;
      inherit (model)
        slots
        threads
        gpu
        speculation
        priority
        pinned
        preload
        ;
      cache_type = model.cacheType;
      minimum_context_tokens = model.minimumContextTokens;
      keep_alive_seconds = model.keepAliveSeconds;
    }
    # The daemon reads an explicit null as "never".
    // lib.optionalAttrs (model.keepAliveSeconds == "forever") { keep_alive_seconds = null; }
    // lib.optionalAttrs (model.projector != null) { projector = "${model.projector}"; }
    // lib.optionalAttrs (model.adapters != { }) {
      adapters = lib.mapAttrs (
        _: adapter:
        { path = "${adapter.path}"; }
        // lib.optionalAttrs (adapter.scale != null) { inherit (adapter) scale; }
      ) model.adapters;
    };

  inherit (import ./visible.nix { inherit lib cfg; }) isHidden;

  # Every alias with its model, as often as it is declared.
  aliases = lib.concatLists (
    lib.mapAttrsToList (name: model: map (alias: { inherit alias name; }) model.aliases) declared
  );

  count = lib.foldl' (total: present: if present then total + 1 else total) 0;

  assertionsOf =
    name: model:
    let
      option = "services.unified-llm.models.declared.${name}";
    in
    [
      {
        assertion = isModelId name && name != "directory";
        message = "${option}: is not a model id. An id has 1 to 128 characters of A-Z a-z 0-9 . _ : / -, starts with a letter or digit, and is not `directory`.";
      }
      {
        assertion =
          count [
            (model.path != null)
            (model.url != null)
            (model.huggingFace != null)
          ] == 1;
        message = "${option}: needs exactly one of path, url and huggingFace.";
      }
      {
        assertion = isFetched model -> model.sha256 != null;
        message = "${option}.sha256: is needed for a file that Nix fetches.";
      }
      {
        assertion = model.sha256 != null -> model.path == null;
        message = "${option}.sha256: has no meaning for a path; only fetched files are checked.";
      }
      {
        assertion = lib.all (
          alias: count (map (each: each.alias == alias) aliases) == 1
        ) model.aliases;
        message = "${option}.aliases: has a name that stands here twice, or is an alias of another model too.";
      }
      {
        assertion = !isHidden model.projector;
        message = "${option}.projector: the service cannot see ${toString model.projector}. Keep projectors elsewhere, such as in /var/lib/unified-llm/models, or set services.unified-llm.hardening.readableHome for those in a home directory.";
      }
      {
        assertion = !isHidden model.path;
        message = "${option}.path: the service cannot see ${toString model.path}. Keep models elsewhere, such as in /var/lib/unified-llm/models, or set services.unified-llm.hardening.readableHome for those in a home directory.";
      }
    ]
    ++ lib.mapAttrsToList (adapter: entry: {
      assertion = !isHidden entry.path;
      message = "${option}.adapters.${adapter}.path: the service cannot see ${toString entry.path}. Keep adapters elsewhere, such as in /var/lib/unified-llm/models, or set services.unified-llm.hardening.readableHome for those in a home directory.";
    }) model.adapters;
in
{
  config = lib.mkIf cfg.enable {
    services.unified-llm.settings.models = lib.mapAttrsRecursive (_: lib.mkDefault) (
      lib.mapAttrs settingsOf declared // { inherit (cfg.models) directory; }
    );

    services.unified-llm.settings.routing.aliases = lib.mkIf (aliases != [ ]) (
      builtins.listToAttrs (
        map (each: lib.nameValuePair each.alias (lib.mkDefault each.name)) aliases
      )
    );

    services.unified-llm.settings.downloads = lib.mkIf cfg.models.prune {
      prune = lib.mkDefault true;
    };

    assertions = lib.concatLists (lib.mapAttrsToList assertionsOf declared) ++ [
      {
        assertion = !isHidden cfg.models.directory;
        message = "services.unified-llm.models.directory: the service cannot see ${toString cfg.models.directory}. Keep models elsewhere, such as in /var/lib/unified-llm/models, or set services.unified-llm.hardening.readableHome for those in a home directory.";
      }
    ];
  };
}
