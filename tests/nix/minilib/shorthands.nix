# Options that are declared so often that they have a name.
{
  attrByPath,
  literalExpression,
  mkIf,
  mkMerge,
  mkOption,
  setAttrByPath,
  showOption,
  types,
  ...
}:
{
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };

  mkPackageOption =
    pkgs: name: _:
    mkOption {
      type = types.package;
      default = pkgs.${name};
      defaultText = literalExpression "pkgs.${name}";
      description = "The ${name} package to use.";
    };

  mkRenamedOptionModule =
    from: to:
    { config, ... }:
    let
      value = attrByPath from null config;
    in
    {
      options = setAttrByPath from (mkOption {
        type = types.nullOr types.unspecified;
        default = null;
        visible = false;
        description = "Alias of `${showOption to}`.";
      });
      config = mkIf (value != null) (mkMerge [
        (setAttrByPath to value)
        { warnings = [ "The option `${showOption from}' has been renamed to `${showOption to}'." ]; }
      ]);
    };
}
