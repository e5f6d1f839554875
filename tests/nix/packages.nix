# Stands in for nixpkgs: derivations that are never built, with the text they would contain.
{ lib }:
let
  storePath = name: "${builtins.storeDir}/00000000000000000000000000000000-${name}";
  derivation =
    name: more:
    {
      type = "derivation";
      inherit name;
      outPath = storePath name;
    }
    // more;

  # The type of nixpkgs' pkgs.formats.json.
  json = lib.types.nullOr (
    lib.types.oneOf [
      lib.types.bool
      lib.types.int
      lib.types.float
      lib.types.str
      lib.types.path
      (lib.types.attrsOf json)
      (lib.types.listOf json)
    ]
  );
in
{
  unified-llm = derivation "unified-llm" { override = _: derivation "unified-llm" { }; };

  stdenv = {
    buildPlatform.canExecute = _: true;
    hostPlatform = { };
  };

  formats.json = _: {
    type = json // {
      description = "JSON value";
    };
    generate = name: value: derivation name { text = builtins.toJSON value; };
  };

  writeTextDir = path: text: derivation (baseNameOf path) { files.${path} = text; };
  runCommand =
    name: _: script:
    derivation name { inherit script; };
  fetchurl =
    {
      name,
      url,
      sha256,
    }:
    # Only the path reaches the settings, so it tells what would have been fetched.
    derivation name { outPath = "${storePath name}?from=${url}&sha256=${sha256}"; };
}
