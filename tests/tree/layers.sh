#!/usr/bin/env bash
# A room under common/ includes only headers of rooms below it (see ARCHITECTURE.md); tools include the library and tools/ alone.
set -u
rooms=(base stream kernels net image text weights metrics model train) # from the lowest
bad=0
for i in "${!rooms[@]}"; do
    room=${rooms[$i]}
    [ -d "common/$room" ] || continue
    while IFS=: read -r file line text; do
        dir=$(sed -E 's/.*"([a-z_0-9]+)\/.*/\1/' <<<"$text")
        ok=
        for ((j = 0; j <= i; j++)); do [ "${rooms[$j]}" = "$dir" ] && ok=1; done
        if [ -z "$ok" ]; then
            echo "$file:$line: $text: $room may not use $dir"
            bad=1
        fi
    done < <(grep -nHE '^#include "[a-z_0-9]+/' common/"$room"/* || true)
    while IFS=: read -r file line text; do
        echo "$file:$line: $text: name the room, as in \"$room/...\""
        bad=1
    done < <(grep -nHE '^#include "[^/]*"' common/"$room"/* || true)
done
exit $bad
