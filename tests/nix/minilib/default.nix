# The part of nixpkgs' lib that a service module uses, written anew from its documented behaviour, so
# that the module can be evaluated with nothing but nix-instantiate. With NIXPKGS_LIB the same tests run
# on the real one (tests/nix/evaluation.py).
let
  plain = import ./plain.nix;
  properties = import ./properties.nix plain;
  options = import ./options.nix (plain // properties);
  types = import ./types.nix (plain // properties // { inherit (modules) evalModules; });
  modules = import ./modules.nix (plain // properties // options // { inherit types lib; });
  documentation = import ./documentation.nix (plain // options // { inherit (modules) evalModules; });
  shorthands = import ./shorthands.nix (plain // properties // options // { inherit types; });
  lib =
    plain
    // properties
    // options
    // documentation
    // shorthands
    // {
      inherit types;
      inherit (types) mkOptionType;
      inherit (modules) evalModules;
    };
in
lib
