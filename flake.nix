{
  description = "unified-llm: one system daemon per Linux machine that owns its language models";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      packageFor = pkgs: pkgs.callPackage ./nixos-module/package.nix { };
    in
    {
      overlays.default = final: _: { unified-llm = packageFor final; };

      packages = forEachSystem (pkgs: rec {
        unified-llm = packageFor pkgs;
        default = unified-llm;
      });

      # With the overlay, so that `pkgs.unified-llm` is there for `override` too, built from the
      # machine's own nixpkgs.
      nixosModules = {
        unified-llm = {
          imports = [ ./nixos-module ];
          nixpkgs.overlays = [ self.overlays.default ];
        };
        default = self.nixosModules.unified-llm;
      };

      checks = forEachSystem (pkgs: {
        package = packageFor pkgs;
        vm = pkgs.testers.runNixOSTest (import ./nixos-module/tests/vm.nix { inherit self; });
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (packageFor pkgs) ];
          packages = [
            pkgs.cmake
            pkgs.dbus
            pkgs.gnumake
            pkgs.nix
            pkgs.pkg-config
            pkgs.python3
            pkgs.systemd
          ];
        };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
