#!/bin/sh
# What a machine with the rendered unit does, asked on that machine: run by systemd in the tree that
# `tests/system/debian_tree.sh --boot` prepares. Ends with the line "booted: all well".
set -eu

socket=/run/unified-llm/api.sock
configuration=/etc/unified-llm/config.yaml
question="What is the capital of France?"

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'booted: %s\n' "$*"
    systemctl status --no-pager --full unified-llm.service || true
    journalctl --no-pager --unit unified-llm.service --lines 60
    exit 1
}

# At most two and a half minutes, five times what the watchdog takes: 1500 questions, ten a second.
wait_until() { # WHAT COMMAND...
    what=$1
    shift
    attempts=1500
    until "$@" >/dev/null 2>&1; do
        attempts=$((attempts - 1))
        [ $attempts -gt 0 ] || die "in vain waited for: $what"
        sleep 0.1
    done
}

property() { systemctl show --property "$1" --value unified-llm.service; }
main_pid() { property MainPID; }
as() { # USER COMMAND...
    user=$1
    shift
    setpriv --reuid "$user" --regid "$user" --init-groups --reset-env "$@"
}
ask() { # USER PATH...
    user=$1
    path=$2
    shift 2
    as "$user" curl --silent --show-error --fail --no-buffer --max-time 300 --unix-socket $socket \
        "http://localhost$path" "$@"
}
expect() { # PATTERN WHAT
    grep -Eq "$1" /tmp/answer || { cat /tmp/answer; die "$2"; }
}
has_new_pid() { [ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ]; }

call() { # USER METHOD ARGUMENT...
    user=$1
    shift
    as "$user" busctl --system --timeout=120 call org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager \
        "$@" >/tmp/answer 2>&1
}
refuses() { # USER METHOD ARGUMENT...
    ! call "$@" || die "$1 may do that: $*"
    expect "Access denied|AccessDenied|ermission denied|not permitted" "it was not refused for want of a right"
    cat /tmp/answer
}

say "Started as the page says"
for user in alice bob carol mallory; do useradd --create-home $user; done
groupadd students
usermod --append --groups unified-llm alice
usermod --append --groups unified-llm,unified-llm-admin bob
usermod --append --groups students carol
install -D -m 644 /root/smollm2.gguf /srv/models/smollm2.gguf
install -D -m 644 /root/smollm2.gguf /srv/models/tiny.gguf
printf 'models:\n  smollm2: {path: /srv/models/smollm2.gguf, context_tokens: 256}\n' >$configuration
printf '  tiny: {path: /srv/models/tiny.gguf, context_tokens: 256}\n' >>$configuration
sh -eux /root/start.sh 2>&1
wait_until "active" systemctl is-active --quiet unified-llm.service
[ "$(property SubState)" = running ] || die "it is not running"
systemctl --version | head -n 1

say "The socket answers a member of the group, and nobody else"
ask alice /v1/models >/tmp/answer || die "alice was refused"
expect smollm2 "the model is not listed"
if ask mallory /v1/models >/tmp/answer 2>&1; then die "mallory got in"; fi
expect "ermission denied|Couldn't connect|Could not connect" "mallory was refused in another way"

say "A token over the socket, under the sandbox"
ask alice /v1/chat/completions --header "content-type: application/json" --data \
    "{\"model\": \"smollm2\", \"stream\": true, \"temperature\": 0, \"max_tokens\": 16,
      \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" >/tmp/answer || die "no answer"
expect '"content": ?"[^"]' "the answer is empty"
expect '^data: \[DONE\]' "the stream did not end properly"
grep -E -m 1 '"content": ?"[^"]' /tmp/answer

say "Text over the system bus, for an ordinary user"
as alice busctl --system --timeout=120 call org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager \
    GenerateText 'ssa{sv}' smollm2 "$question" 2 temperature d 0 max_tokens u 16 \
    >/tmp/answer || die "the bus did not answer"
expect '^sa\{sv\} "[^"]' "the answer over D-Bus is empty"
cat /tmp/answer

say "polkit decides what the others may: nobody of them has a session, so only rules help"
refuses mallory GenerateText 'ssa{sv}' smollm2 "$question" 0
refuses mallory LoadModel 'sa{sv}' smollm2 0
refuses alice LoadModel 'sa{sv}' tiny 0
refuses alice UnloadModel 'sa{sv}' smollm2 0
call bob LoadModel 'sa{sv}' tiny 0 || { cat /tmp/answer; die "bob may not load"; }
echo "bob loads: $(cat /tmp/answer)"

say "The rule that is shown as an example: students may ask tiny, and nothing else"
refuses carol GenerateText 'ssa{sv}' tiny "$question" 1 max_tokens u 4
# polkit notices it by itself. Not by `install`, which makes the file readable only once it is closed:
# polkit has looked by then, in vain, and does not look again.
cp /root/unified-llm/polkit/example.rules /etc/polkit-1/rules.d/50-unified-llm.rules
wait_until "carol may ask tiny" call carol GenerateText 'ssa{sv}' tiny "$question" 1 max_tokens u 4
cat /tmp/answer
refuses carol GenerateText 'ssa{sv}' smollm2 "$question" 0
call bob UnloadModel 'sa{sv}' tiny 0 || { cat /tmp/answer; die "bob may not unload"; }

say "The journal knows who asked: the kernel's uid, through the sandbox"
alice=$(id -u alice)
journalctl --quiet --output json _SYSTEMD_UNIT=unified-llm.service UNIFIED_LLM_ACTION=generate \
    "UNIFIED_LLM_UID=$alice" >/tmp/answer
expect '"UNIFIED_LLM_DOOR":"http"' "no record of the socket"
expect '"UNIFIED_LLM_DOOR":"dbus"' "no record of the bus"
journalctl --quiet --lines 1 --output verbose UNIFIED_LLM_ACTION=generate "UNIFIED_LLM_UID=$alice" |
    grep -o "UNIFIED_LLM_.*" | sort
journalctl --quiet --output json UNIFIED_LLM_RESULT=refused "UNIFIED_LLM_UID=$(id -u mallory)" >/tmp/answer
expect generate "mallory's refusal is not recorded"

say "Twenty streams, and reloads under them: none breaks, and process and model stay"
before=$(main_pid)
has_one_worker() { [ "$(pgrep -c -f unified_llm.worker)" = 1 ]; }
wait_until "tiny has left" has_one_worker
workers=$(pgrep -f unified_llm.worker)
mkdir -m 777 /tmp/streams
streams=
for number in $(seq 20); do
    ask alice /v1/chat/completions --header "content-type: application/json" --data \
        "{\"model\": \"smollm2\", \"stream\": true, \"max_tokens\": 24, \"seed\": $number,
          \"messages\": [{\"role\": \"user\", \"content\": \"Tell a long story about a fox, number $number.\"}]}" \
        >"/tmp/streams/$number" &
    streams="$streams $!"
done
has_begun() { grep -q '"content": \?"[^"]' /tmp/streams/*; }
wait_until "a stream has begun" has_begun
echo "log: {level: debug}" >>$configuration
systemctl reload unified-llm.service
[ "$(main_pid)" = "$before" ] || die "the reload restarted the daemon"
property StatusText

say "A broken configuration is refused, and the old one kept"
cp $configuration /tmp/good
echo "scheduler: {queue_limt: 3}" >>$configuration
systemctl reload unified-llm.service
property StatusText >/tmp/answer
cat /tmp/answer
expect "reload refused" "the status does not say so"
[ "$(main_pid)" = "$before" ] || die "the broken configuration restarted the daemon"
systemctl status --no-pager unified-llm.service >/tmp/answer
expect "queue_limt" "systemctl status does not say why"
grep -A 1 "Status:" /tmp/answer
for stream in $streams; do
    wait "$stream" || die "a stream broke"
done
for number in $(seq 20); do
    tail -n 2 "/tmp/streams/$number" | grep -qx "data: \[DONE\]" || die "stream $number has no end"
done
echo "20 of 20 streams are whole, $(cat /tmp/streams/* | grep -c '"content"') pieces"
[ "$(pgrep -f unified_llm.worker)" = "$workers" ] || die "the reloads lost the model"
ask alice /v1/models >/tmp/answer || die "it does not serve any more"

say "Every layer of the worker's sandbox is active"
as alice /usr/local/bin/unified-llm status >/tmp/answer || die "no status"
cat /tmp/answer
expect landlock "no Landlock"
expect seccomp "no seccomp"
expect no-new-privileges "no no_new_privs"

say "At start it is refused with status 78, and not tried again"
systemctl restart unified-llm.service 2>/dev/null || true
wait_until "failed" systemctl is-failed --quiet unified-llm.service
[ "$(property ExecMainStatus)" = 78 ] || die "the exit status is $(property ExecMainStatus)"
[ "$(property NRestarts)" = 0 ] || die "it was restarted"
cp /tmp/good $configuration
systemctl reset-failed unified-llm.service unified-llm.socket
systemctl start unified-llm.socket unified-llm.service

say "kill -9: it is back"
before=$(main_pid)
kill -KILL "$before"
wait_until "a new process" has_new_pid "$before"
wait_until "active" systemctl is-active --quiet unified-llm.service
wait_until "an answer" ask alice /v1/models

say "A hung daemon is replaced by the watchdog"
before=$(main_pid)
kill -STOP "$before"
wait_until "a new process" has_new_pid "$before"
wait_until "active" systemctl is-active --quiet unified-llm.service
journalctl --quiet --unit unified-llm.service --grep "[Ww]atchdog timeout" >/tmp/answer
expect "atchdog timeout" "it was not the watchdog"

# systemd refuses the sixth start within ten seconds, and a quick machine comes to that below.
forget_starts() { systemctl reset-failed unified-llm.service; }

say "The socket outlives the service, and starts it"
systemctl stop unified-llm.service
[ -S $socket ] || die "the socket is gone"
ask alice /v1/models >/tmp/answer || die "nobody answered"
# It answers a moment before it tells systemd so.
wait_until "started by the socket" systemctl is-active --quiet unified-llm.service

say "So does the bus name"
systemctl stop unified-llm.service
as alice busctl --system introspect org.unifiedllm1 /org/unifiedllm1 >/tmp/answer || die "no activation"

say "The helper of a login runs under alice's own manager"
systemctl start "user@$alice.service"
mine() { as alice env XDG_RUNTIME_DIR="/run/user/$alice" systemctl --user --no-pager "$@"; }
mine start unified-llm-session.service || { mine status unified-llm-session.service || true; die "it does not start"; }
mine status unified-llm-session.service >/tmp/answer || die "it does not run"
grep -E "Loaded|Active|Status" /tmp/answer
mine stop unified-llm-session.service

say "Exposure of the running service"
systemd-analyze security --no-pager --threshold=6 unified-llm.service >/tmp/answer || die "above 0.6"
tail -n 1 /tmp/answer

say "A provider as the page has it: a drop-in for the network, and one for the key"
key=$(od -A n -N 16 -t x1 /dev/urandom | tr -d ' \n')
install -d -m 700 /root/sops /etc/secrets
printf '%s\n' "$key" >/root/sops/elsewhere.key
install -m 400 /root/sops/elsewhere.key /etc/secrets/deepseek
systemd-run --quiet --unit=elsewhere python3 /root/unified-llm/tests/system/provider.py 18439 /root/sops/elsewhere.key
printf 'providers:\n  deepseek: {kind: deepseek, url: "http://127.0.0.1:18439/v1", key: deepseek-key}\n' >>$configuration
forget_starts
(cd /root/unified-llm && sh -eux /root/provider.sh 2>&1)
is_listed() { ask alice /v1/models | grep -q "$1"; }
hello() { # MODEL
    ask alice /v1/chat/completions --header "content-type: application/json" \
        --data "{\"model\": \"$1\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}" >/tmp/answer
}
wait_until "its models are known" is_listed deepseek/echo
hello deepseek/echo || die "no answer from deepseek"
expect "You said: Hello" "another answer"
property StatusText
rm -r /etc/secrets/deepseek /etc/systemd/system/unified-llm.service.d/deepseek.conf \
    /etc/systemd/system/unified-llm.service.d/network.conf

say "A key in a real SOPS file, decrypted as sops-nix does: before the service, to a file of root's"
age-keygen -o /root/sops/age.key 2>/dev/null
printf 'elsewhere: %s\n' "$key" >/root/sops/plain.yaml
sops=/root/unified-llm/.venv/bin/sops
$sops --encrypt --age "$(age-keygen -y /root/sops/age.key)" /root/sops/plain.yaml >/etc/secrets.yaml
rm /root/sops/plain.yaml
head -n 1 /etc/secrets.yaml | cut -c 1-60
if grep -q "$key" /etc/secrets.yaml; then die "the file is not encrypted"; fi
cat >/etc/systemd/system/sops-install-secrets.service <<END
[Unit]
Before=unified-llm.service
[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0377
Environment=SOPS_AGE_KEY_FILE=/root/sops/age.key
ExecStart=/bin/install -d -m 751 /run/secrets
ExecStart=$sops --decrypt --extract '["elsewhere"]' --output /run/secrets/elsewhere /etc/secrets.yaml
[Install]
RequiredBy=unified-llm.service
END

say "The unit and the settings that the NixOS module renders for a machine with providers"
systemctl stop unified-llm.service unified-llm.socket
cp -r /root/nixos/etc /
systemctl daemon-reload
systemctl enable --quiet sops-install-secrets.service
forget_starts
systemctl start unified-llm.socket unified-llm.service
[ "$(stat --format '%a %U' /run/secrets/elsewhere)" = "400 root" ] || die "the secret is not root's alone"
systemctl status --no-pager unified-llm.service sops-install-secrets.service >/tmp/answer || die "it does not run"
grep -E "Loaded|Active|Status" /tmp/answer
expect "provider keyless is off: credential provider-keyless is missing" "the status does not say what is off"
as alice /usr/local/bin/unified-llm status >/tmp/answer || die "no status"
expect "provider keyless is off" "unified-llm status does not say what is off"

say "The provider answers over both doors, to who may ask, with the key that only root could read"
wait_until "its models are known" is_listed elsewhere/echo
hello elsewhere/echo || die "no answer from elsewhere"
cat /tmp/answer
expect "You said: Hello" "another answer"
call alice GenerateText 'ssa{sv}' elsewhere/echo "Hello" 0 || { cat /tmp/answer; die "no answer over the bus"; }
cat /tmp/answer
expect "You said: Hello" "another answer over the bus"
refuses mallory GenerateText 'ssa{sv}' elsewhere/echo "Hello" 0
journalctl --quiet --output cat --unit elsewhere.service >/tmp/answer
expect '"POST /v1/chat/completions HTTP/1.1" 200' "the provider saw nobody with its key"
if grep -q '" 401 ' /tmp/answer; then die "the provider saw a wrong key"; fi
if hello keyless/echo 2>/dev/null; then die "keyless answers"; fi

say "The key is nowhere that others read"
journalctl --quiet --boot >/tmp/answer
if grep -q "$key" /tmp/answer; then die "the key is in the journal"; fi
if grep -q -r "$key" /etc /proc/"$(main_pid)"/environ /proc/"$(main_pid)"/cmdline; then die "the key is in a file"; fi
if systemctl show unified-llm.service | grep -q "$key"; then die "the key is in the unit"; fi
if as alice cat /run/secrets/elsewhere 2>/dev/null; then die "alice reads the key"; fi

say "The file that was missing comes, and a restart turns its provider on"
install -m 400 /root/sops/elsewhere.key /etc/secrets/keyless
forget_starts
systemctl restart unified-llm.service
property StatusText
if property StatusText | grep -q keyless; then die "keyless is still off"; fi
rm /etc/secrets/keyless

say "Exposure of the service with providers"
systemd-analyze security --no-pager --threshold=15 unified-llm.service >/tmp/answer || die "above 1.5"
tail -n 1 /tmp/answer

printf '\nbooted: all well\n'
