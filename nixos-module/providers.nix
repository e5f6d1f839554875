# Model servers elsewhere: filled into the settings, with their keys as systemd credentials. Only the
# name of a credential gets into the settings, and with them into the store.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.unified-llm;
  enabled = lib.filterAttrs (_: provider: provider.enable) cfg.providers;

  inherit (import ./visible.nix { inherit lib cfg; }) isHidden;

  # sops-nix may be there or not; nothing of it is touched where it is not.
  hasSops = options ? sops;
  fromSops = lib.filterAttrs (_: provider: provider.sopsSecret != null) enabled;

  keyFileOf =
    provider:
    if provider.keyFile != null then
      provider.keyFile
    else if provider.sopsSecret != null && hasSops then
      config.sops.secrets.${provider.sopsSecret}.path
    else
      null;
  keyFiles = lib.filterAttrs (_: file: file != null) (lib.mapAttrs (_: keyFileOf) enabled);

  credentialOf = name: "provider-${name}";
  # In a unit, % begins what systemd replaces.
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];

  settingsOf =
    name: provider:
    lib.filterAttrs (_: value: value != null) {
      inherit (provider)
        kind
        url
        socket
        models
        proxy
        ;
      key = if keyFiles ? ${name} then credentialOf name else null;
      ca_file = if provider.caFile == null then null else "${provider.caFile}";
      reasoning_summary = provider.reasoningSummary;
      connect_seconds = provider.connectSeconds;
      first_event_seconds = provider.firstEventSeconds;
      between_events_seconds = provider.betweenEventsSeconds;
      total_seconds = provider.totalSeconds;
    };

  # unified_llm.settings.sections.providers: PROVIDER_PATTERN and RESERVED_NAME
  isProviderName =
    name: builtins.match "[a-z][a-z0-9-]{0,31}" name != null && name != "local";

  assertionsOf =
    name: provider:
    let
      option = "services.unified-llm.providers.${name}";
      visible = what: path: {
        assertion = !isHidden path;
        message = "${option}.${what}: the service cannot see ${toString path}. Keep it elsewhere, or set services.unified-llm.hardening.readableHome for what is in a home directory or in /run/user.";
      };
    in
    [
      {
        assertion = isProviderName name;
        message = "${option}: is not the name of a provider. A name has 1 to 32 characters of a-z 0-9 -, starts with a letter, and is not `local`.";
      }
      {
        assertion =
          provider.kind == "openai-compatible" -> provider.url != null || provider.socket != null;
        message = "${option}: needs url or socket; an openai-compatible server has no address of its own.";
      }
      {
        assertion = provider.keyFile == null || provider.sopsSecret == null;
        message = "${option}: has both keyFile and sopsSecret; the key comes from one of them.";
      }
      {
        assertion = provider.sopsSecret != null -> hasSops;
        message = "${option}.sopsSecret: needs sops-nix; import its module, or set keyFile instead.";
      }
      (visible "socket" provider.socket)
      (visible "caFile" provider.caFile)
    ];
in
{
  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        services.unified-llm.settings.providers = lib.mapAttrsRecursive (_: lib.mkDefault) (
          lib.mapAttrs settingsOf enabled
        );

        systemd.services.unified-llm.serviceConfig = lib.mkIf (keyFiles != { }) {
          LoadCredential = lib.mapAttrsToList (
            name: file: "${credentialOf name}:${literal file}"
          ) keyFiles;
          # Without a value to fall back on, a missing file would stop the whole service
          # (243/CREDENTIALS). The daemon takes this one for no key, and turns the provider off.
          SetCredential = map (name: "${credentialOf name}:unset") (lib.attrNames keyFiles);
        };

        assertions = lib.concatLists (lib.mapAttrsToList assertionsOf enabled);
      }
      (lib.optionalAttrs hasSops {
        sops.secrets = lib.mapAttrs' (
          _: provider:
          lib.nameValuePair provider.sopsSecret { restartUnits = [ "unified-llm.service" ]; }
        ) fromSops;
      })
    ]
  );
}
