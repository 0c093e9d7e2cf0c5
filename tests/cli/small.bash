# Shared by scripts.bats and ends.bats: a model and pictures that cost next to nothing. B: the build folder, T: the test's.
# shellcheck shell=bash disable=SC2154

# A small random model with data/nano's tokenizer and vocabulary, and four pictures with captions; nothing of it needs a font.
small() {
    mkdir -p "$T/m"
    cp data/nano/tokenizer.model "$T/m/"
    "$B/data/init" --image 16 --patch 8 --vit-width 8 --vit-depth 1 --vit-mlp 8 --vit-heads 2 --width 8 --depth 1 --mlp 8 --heads 2 \
        --head-dim 4 --vocab "$("$B/pg-info" data/nano | sed -n 's/^vocabulary  *\([0-9]*\).*/\1/p')" "$T/m/model.npz"
}

pictures() {
    mkdir -p "$T/pictures"
    local i
    for i in 1 2 3 4; do
        cp tests/golden/image/"$(ls tests/golden/image | grep -m1 '\.png$')" "$T/pictures/$i.png"
        echo "{\"image\":\"$i.png\",\"suffix\":\"a thing\"}"
    done >"$T/pictures/train.jsonl"
}
