# How far the daemon has to reach for its providers, by its settings: "nowhere" (none, or all of them on
# Unix sockets), "loopback" (this machine only) or "anywhere".
{ lib }:
providers:
let
  # What unified_llm.settings.sections.providers.DEFAULT_URLS has on this machine; a test compares.
  defaultUrls.ollama = "http://127.0.0.1:11434";

  # Null in a setting means that it is left out.
  orElse = default: value: if value == null then default else value;
  urlOf =
    provider:
    orElse (orElse (defaultUrls.${provider.kind or ""} or "") (provider.url or null)) (
      provider.proxy or null
    );

  # A name may mean another machine tomorrow, so only what is sure to be this one counts.
  isLoopback =
    url:
    builtins.match "https?://(localhost|127\\.[0-9.]+|\\[::1])(:[0-9]+)?(/.*)?" url != null;

  overNetwork = lib.filter (provider: (provider.socket or null) == null) (lib.attrValues providers);
in
if overNetwork == [ ] then
  "nowhere"
else if lib.all (provider: isLoopback (urlOf provider)) overNetwork then
  "loopback"
else
  "anywhere"
