#!/usr/bin/env bash
# Runs bash with these arguments, such as a script and its own. Where a signal ends this process, all that was started below it is ended first,
# then it dies of the same signal. Bash alone acts on a signal only when the pipeline in its foreground has ended, or dies and leaves that
# running. The other scripts begin again below this one (usage.sh), and it is the shell of sweep.mk.
# A signal that was ignored before stays so (nohup). kill -9 reaches this process alone: what runs at that moment goes on, nothing follows it.

child='' # until it is there

# below PID: it and what was started below it, parents first, so that no shell goes on with its next command.
below() {
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v top="$1" '
        { pid = $1; sub(/.*\) . /, ""); under[$1] = under[$1] " " pid }
        function show(pid,   all, n, i) {
            print pid
            n = split(under[pid], all, " ")
            for (i = 1; i <= n; i++) show(all[i])
        }
        END { show(top) }'
}

# running PID...: is one of them? What nobody has waited for yet is not.
running() {
    set -- "${@/#//proc/}"
    cat "${@/%//stat}" 2>/dev/null | awk '{ sub(/.*\) /, "") } !/^[ZX]/ { some = 1 } END { exit !some }'
}

end() { # end SIGNAL
    local all i
    trap '' HUP INT QUIT TERM
    if [ -n "${child:=$!}" ]; then
        mapfile -t all < <(below "$child")
        kill -TERM "${all[@]}" 2>/dev/null
        for ((i = 0; i < 200; i++)); do
            running "${all[@]}" || break
            sleep 0.05
        done
        [ "$i" -lt 200 ] || kill -KILL "${all[@]}" 2>/dev/null
    fi
    trap - "$1"
    kill -s "$1" $$
    exit $((128 + $(kill -l "$1"))) # a container's first process outlives its own signal
}
for signal in HUP INT QUIT TERM; do
    # shellcheck disable=SC2064 # now
    trap "end $signal" "$signal"
done

# Bash waits for what runs in the background, and acts on signals meanwhile.
PG_TOGETHER=$$ setpriv --pdeathsig TERM "$BASH" "$@" <&0 &
child=$!
wait "$child"
