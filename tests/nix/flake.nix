# What the flake offers, evaluated with stand-ins for nixpkgs:
#
#   nix-instantiate --eval --strict --json tests/nix/flake.nix -A package
let
  lib = import ./minilib // {
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    fileset = {
      toSource = { root, fileset }: map (path: baseNameOf (toString path)) fileset;
      unions = paths: paths;
    };
    licenses.mit = "MIT";
    platforms.linux = [ "x86_64-linux" ];
  };

  # A Python package with the two ways of changing it that package.nix uses.
  pythonPackage = name: {
    inherit name;
    override = arguments: {
      overridePythonAttrs = attributes: { inherit name; } // arguments // attributes;
    };
  };
  dependencies = map (requirement: builtins.head (builtins.match "([a-z0-9-]+).*" requirement)) (
    lib.importTOML ../../pyproject.toml
  ).project.dependencies;
  pythonWith = overrides: {
    override = { packageOverrides }: pythonWith packageOverrides;
    pkgs =
      let
        known = lib.genAttrs (dependencies ++ [ "setuptools" ]) pythonPackage // {
          buildPythonApplication = attributes: attributes;
        };
      in
      known // overrides known known;
  };

  pkgs = import ./packages.nix { inherit lib; } // {
    inherit lib;
    config = { };
    python3 = pythonWith (_: _: { });
    fetchPypi = source: source;
    mkShell = arguments: arguments;
    testers.runNixOSTest = test: test;
    callPackage =
      file: arguments:
      let
        f = import file;
        build = more: f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // arguments // more);
      in
      build { } // { override = build; };
  }
  // lib.genAttrs [ "cmake" "dbus" "gnumake" "nix" "nixfmt-tree" "pkg-config" "systemd" ] (name: name);

  flake = import ../../flake.nix;
  self = outputs // {
    outPath = ../..;
  };
  outputs = flake.outputs {
    inherit self;
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
    };
  };

  unspecified = lib.mkOption {
    type = lib.types.unspecified;
    default = { };
  };
  evaluate =
    module:
    (lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        ./nixos.nix
        module
        {
          options.virtualisation = unspecified;
          options.specialisation = unspecified;
        }
      ];
    }).config;
  package = outputs.packages.x86_64-linux.default;
  asData = map (each: removeAttrs each [ "override" ]);

  vm = outputs.checks.x86_64-linux.vm;
  vmMachine = evaluate vm.nodes.machine;
in
{
  inputs = builtins.attrNames flake.inputs;
  outputs = builtins.attrNames outputs;
  systems = builtins.attrNames outputs.packages;
  package = {
    inherit (package) meta src version;
    dependencies = asData package.dependencies;
  };
  cuda = asData (package.override { cudaSupport = true; }).dependencies;
  overlay = (outputs.overlays.default pkgs pkgs).unified-llm.pname;
  devShell = builtins.filter builtins.isString outputs.devShells.x86_64-linux.default.packages;
  formatter = outputs.formatter.x86_64-linux;
  module =
    let
      config = evaluate {
        imports = [ outputs.nixosModules.default ];
        services.unified-llm.enable = true;
      };
    in
    {
      services = builtins.attrNames config.systemd.services;
      overlays = builtins.length config.nixpkgs.overlays;
    };
  vm = {
    inherit (vm) name testScript;
    inherit (vmMachine.services.unified-llm) settings;
    refusals = builtins.filter (each: !each.assertion) vmMachine.assertions;
    specialisations = builtins.attrNames vmMachine.specialisation;
  };
}
