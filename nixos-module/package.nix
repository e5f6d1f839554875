# The daemon and its command line. CUDA is chosen here, by the build of llama-cpp-python, and never
# forced on anybody: pkgs.unified-llm.override { cudaSupport = true; }
{
  lib,
  config,
  fetchPypi,
  python3,
  cudaSupport ? config.cudaSupport or false,
}:
let
  project = (lib.importTOML ../pyproject.toml).project;

  python = python3.override {
    packageOverrides = _: previous: {
      # The very source that the tests ran with: the worker uses its low-level bindings.
      llama-cpp-python =
        (previous.llama-cpp-python.override { inherit cudaSupport; }).overridePythonAttrs
          rec {
            version = "0.3.36";
            src = fetchPypi {
              pname = "llama_cpp_python";
              inherit version;
              hash = "sha256-gy2waZAH8b6Vp+Qe8S6IkmsCuoNkYeNqNjctsnYMGi4=";
            };
            # Patches in nixpkgs belong to its own version.
            patches = [ ];
          };
    };
  };
in
python.pkgs.buildPythonApplication {
  pname = "unified-llm";
  inherit (project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../README.md
      ../daemon
      ../pyproject.toml
    ];
  };

  build-system = [ python.pkgs.setuptools ];

  dependencies = with python.pkgs; [
    dbus-next
    fastapi
    h11
    aiohttp
    httpx
    httpx-aiohttp
    jinja2
    llama-cpp-python
    msgspec
    nvidia-ml-py
    pydantic
    pyyaml
    sdnotify
    systemd-python
    typer
    uvicorn
  ];

  # The tests need buses, a model and a checkout; `make test` runs them. The engine is not imported here:
  # a build for CUDA does not load without the driver.
  pythonImportsCheck = [
    "unified_llm.app.main"
    "unified_llm.cli.main"
  ];

  meta = {
    inherit (project) description;
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "unified-llm";
  };
}
