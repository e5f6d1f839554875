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

say "Started as the page says"
useradd --create-home alice
useradd --create-home mallory
usermod --append --groups unified-llm alice
install -D -m 644 /root/smollm2.gguf /srv/models/smollm2.gguf
printf 'models:\n  smollm2: {path: /srv/models/smollm2.gguf, context_tokens: 256}\n' >$configuration
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

say "Text over the system bus, for an ordinary user"
as alice busctl --system --timeout=120 call org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager \
    GenerateText 'ssa{sv}' smollm2 "$question" 2 temperature d 0 max_tokens u 16 \
    >/tmp/answer || die "the bus did not answer"
expect '^sa\{sv\} "[^"]' "the answer over D-Bus is empty"
cat /tmp/answer
if as mallory busctl --system call org.unifiedllm1 /org/unifiedllm1 org.unifiedllm1.Manager \
    GenerateText 'ssa{sv}' smollm2 "$question" 0 >/tmp/answer 2>&1; then die "mallory may generate"; fi
cat /tmp/answer

say "The journal knows who asked: the kernel's uid, through the sandbox"
alice=$(id -u alice)
journalctl --quiet --output json _SYSTEMD_UNIT=unified-llm.service UNIFIED_LLM_ACTION=generate \
    "UNIFIED_LLM_UID=$alice" >/tmp/answer
expect '"UNIFIED_LLM_DOOR":"http"' "no record of the socket"
expect '"UNIFIED_LLM_DOOR":"dbus"' "no record of the bus"
journalctl --quiet --output json UNIFIED_LLM_RESULT=refused "UNIFIED_LLM_UID=$(id -u mallory)" >/tmp/answer
expect generate "mallory's refusal is not recorded"

say "Twenty streams, and reloads under them: none breaks, and process and model stay"
before=$(main_pid)
workers=$(pgrep -f unified_llm.worker | sort)
[ -n "$workers" ] || die "no worker runs"
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
for stream in $streams; do
    wait "$stream" || die "a stream broke"
done
for number in $(seq 20); do
    tail -n 2 "/tmp/streams/$number" | grep -qx "data: \[DONE\]" || die "stream $number has no end"
done
echo "20 of 20 streams are whole, $(cat /tmp/streams/* | grep -c '"content"') pieces"
[ "$(pgrep -f unified_llm.worker | sort)" = "$workers" ] || die "the reloads lost the model"
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

say "The socket outlives the service, and starts it"
systemctl stop unified-llm.service
[ -S $socket ] || die "the socket is gone"
ask alice /v1/models >/tmp/answer || die "nobody answered"
systemctl is-active --quiet unified-llm.service || die "the socket did not start it"

say "So does the bus name"
systemctl stop unified-llm.service
as alice busctl --system introspect org.unifiedllm1 /org/unifiedllm1 >/tmp/answer || die "no activation"

say "Exposure of the running service"
systemd-analyze security --no-pager unified-llm.service | tail -n 1

printf '\nbooted: all well\n'
