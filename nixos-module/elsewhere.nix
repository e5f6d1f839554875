# The configuration that is rendered for distributions other than NixOS (tests/nix/distribution.py): the
# defaults, with the program where docs/deployment-debian.md installs it.
{
  services.unified-llm = {
    enable = true;
    package = {
      type = "derivation";
      name = "unified-llm";
      outPath = "/opt/unified-llm";
    };
    # Nothing is built here that could check.
    checkConfig = false;
  };
}
