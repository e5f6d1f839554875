# A machine that boots with the module: pkgs.testers.runNixOSTest (import ./vm.nix { inherit self; }).
# The fake engine answers by rule, so no model has to be fetched.
{ self }:
{
  name = "unified-llm";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [ self.nixosModules.default ];
      virtualisation.memorySize = 2048;
      environment.systemPackages = [ pkgs.curl ];

      users.users = {
        alice.isNormalUser = true;
        bob.isNormalUser = true;
        mallory.isNormalUser = true;
      };

      services.unified-llm = {
        enable = true;
        users = [ "alice" ];
        admins = [ "bob" ];
        settings.worker.engine = "fake";
        providers = {
          keyed = {
            kind = "openai-compatible";
            url = "http://127.0.0.1:9/v1";
            keyFile = "/etc/vm-test-key";
            models = [ "any" ];
          };
          keyless = {
            kind = "openai-compatible";
            url = "http://127.0.0.1:9/v1";
            keyFile = "/etc/vm-test-no-key";
          };
        };
      };

      # For the test only: this does put it into the store.
      environment.etc.vm-test-key = {
        text = "sk-vm-test";
        mode = "0400";
      };

      # The same with one more line in the log, for the switch that must not lose a loaded model.
      specialisation.reloaded.configuration.services.unified-llm.settings.log.level = "debug";
    };

  testScript = ''
    def main_pid():
        return machine.succeed("systemctl show --property MainPID --value unified-llm").strip()

    models = "curl --silent --fail --unix-socket /run/unified-llm/api.sock http://localhost/v1/models"

    with subtest("the service is ready, and its socket is there"):
        machine.wait_for_unit("unified-llm.service")
        machine.wait_for_file("/run/unified-llm/api.sock")

    with subtest("users and admins may open the socket, others may not"):
        machine.succeed(f"su alice --command '{models}'")
        machine.succeed(f"su bob --command '{models}'")
        machine.fail(f"su mallory --command '{models}'")

    with subtest("the daemon owns its name on the system bus"):
        machine.succeed("busctl --system introspect org.unifiedllm1 /org/unifiedllm1")

    with subtest("without a session polkit lets users generate, admins manage, and others do neither"):
        manager = "org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager"
        scan = f"busctl --system call {manager} ScanModels 'a{{sv}}' 0"
        machine.succeed(f"su bob --command \"{scan}\"")
        machine.fail(f"su alice --command \"{scan}\"")
        machine.fail(f"su mallory --command \"{scan}\"")

    with subtest("a missing key turns its provider off and says so; of a key only the name is in the settings"):
        status = machine.succeed("systemctl show --property StatusText --value unified-llm")
        assert "provider keyless is off" in status, status
        machine.fail("grep --quiet sk-vm-test /etc/unified-llm/config.yaml")
        machine.fail("su alice --command 'cat /etc/vm-test-key'")

    with subtest("the sandbox holds"):
        machine.succeed("systemd-analyze security --no-pager --threshold=15 unified-llm.service")

    with subtest("a change of what can be reloaded keeps the process"):
        before = main_pid()
        machine.succeed("/run/current-system/specialisation/reloaded/bin/switch-to-configuration test")
        assert main_pid() == before, "the switch restarted the daemon"

    with subtest("a hung daemon is replaced by the watchdog"):
        before = main_pid()
        machine.succeed(f"kill -STOP {before}")
        machine.wait_until_succeeds(
            f"test $(systemctl show --property MainPID --value unified-llm) != {before}"
        )
        machine.wait_for_unit("unified-llm.service")
        machine.succeed(f"su alice --command '{models}'")

    with subtest("the socket outlives the service"):
        machine.succeed("systemctl stop unified-llm.service")
        machine.succeed(f"su alice --command '{models}'")
        machine.wait_for_unit("unified-llm.service")
  '';
}
