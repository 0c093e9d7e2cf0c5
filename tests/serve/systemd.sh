#!/usr/bin/env bash
# The manual's units under a real systemd: PID 1 of namespaces of its own, on a copy of this system that is thrown away. Root only, not part
# of check; prints what happened and ends with `ok` or with what was wrong. Usage: tests/serve/systemd.sh, after make
set -eu
cd "$(dirname "$0")/../.."
B=$(cd "${PG_BUILD:-build}" && pwd) D=$(mktemp -d)

inside() { # becomes PID 1
    local r=$D/root d p
    mount -t tmpfs tmpfs "$D"
    mkdir "$D/up" "$D/work" "$r"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$D/up,workdir=$D/work" "$r"
    mount -t proc proc "$r/proc"
    for d in run dev sys; do mount -t tmpfs tmpfs "$r/$d"; done
    for d in null zero full random urandom tty; do
        touch "$r/dev/$d"
        mount --bind "/dev/$d" "$r/dev/$d"
    done
    mkdir -p "$r/dev/shm" "$r/sys/fs/cgroup" "$r/etc/systemd/system/pg-serve.service.d" "$r/srv"
    mount -t cgroup2 none "$r/sys/fs/cgroup"
    for p in serve resize tokenize infer; do cp "$B/pg-$p" "$r/usr/local/bin/"; done
    cp -r data/nano "$r/srv/model"
    cp tests/golden/image/png-rgb8.png "$r/srv/picture"
    printf '#!/bin/sh\npg-resize -s 64 | pg-tokenize -q -m /srv/model | pg-infer -m /srv/model\n' >"$r/usr/local/bin/caption-pipeline"
    chmod 755 "$r/usr/local/bin/caption-pipeline"
    printf '[Service]\nStandardOutput=append:/var/log/pg\nStandardError=append:/var/log/pg\n' >"$r/etc/systemd/system/pg-serve.service.d/log.conf"
    sed -n '/^# \/etc\/systemd\/system\/pg-serve.socket/,/^\.Ed/{/^# /d;/^\.Ed/d;s/\\e$/\\/;p}' man/pg-serve.1 >"$D/units"
    sed '/^\[Service\]/,$d' "$D/units" >"$r/etc/systemd/system/pg-serve.socket"
    sed -n '/^\[Service\]/,$p' "$D/units" >"$r/etc/systemd/system/pg-serve.service"
    declare -f probe >"$r/srv/probe"
    printf 'if probe >/report 2>&1; then echo ok; else echo "failed at the last line above"; cat /var/log/pg; fi >>/report 2>&1\n' >>"$r/srv/probe"
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/bash /srv/probe\n' >"$r/etc/systemd/system/probe.service"
    : >"$r/report"
    mount --bind "$REPORT" "$r/report"
    exec env -i container=lxc PATH="$PATH" chroot "$r" /lib/systemd/systemd --system --unit=probe.service --show-status=no
}

probe() { # runs under that systemd
    set -x
    local pid url=http://127.0.0.1:8080
    caption() { curl -sS -m 30 --data-binary @/srv/picture "$url/caption?prefix=caption%20en" | grep caption; }
    metric() { curl -sS -m 30 "$url/metrics" | grep -qx "pg_serve_$1"; }
    ip link set lo up && systemctl start pg-serve.socket && ! systemctl is-active pg-serve.service || return
    caption && systemctl is-active pg-serve.service || return # the first connection has started it
    pid=$(systemctl show -p MainPID --value pg-serve.service)
    grep -Eq '^Seccomp:.2' "/proc/$pid/status" && ! grep -Eq '^Uid:.0' "/proc/$pid/status" || return
    systemctl reload pg-serve.service && sleep 2 && metric 'command_reloads_total 1' || return
    kill -9 "$pid" && sleep 2 && caption || return # Restart=
    systemctl stop pg-serve.service && [ "$(systemctl show -p Result --value pg-serve.service)" = success ] || return
    caption # the socket has stayed
}

if [ "${1:-}" = inside ]; then inside; fi
REPORT=$(mktemp)
export REPORT
unshare --pid --fork --mount --uts --ipc --net --propagation private --kill-child "$0" inside >/dev/null 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do
    grep -Eq '^(ok|failed)' "$REPORT" && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.1
done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
cat "$REPORT"
result=$(grep -cx ok "$REPORT" || true)
rm -rf "$REPORT" "$D"
[ "$result" = 1 ]
