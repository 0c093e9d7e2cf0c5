# An experiment over learning rates and seeds: every run is a few files that are made once, so an interrupted sweep goes on, and another
# learning rate adds its runs to those that are there. All of them end in one report and one table. From any folder: what is relative is
# relative to it.
#
#     make -f pipelines/sweep.mk -j2
#     make -f pipelines/sweep.mk -j2 MODEL=DIR TRAIN=train.pgs VAL=val.pgs LRS="0.01 0.03 0.1" SEEDS="0 1 2" ARGS="--train llm"
#
# A changed MODEL, STEPS, BATCH or ARGS makes all runs anew. Makes: OUT/events/RUN.pgs, OUT/captions/RUN.pgs (with scores), OUT/tuned/RUN,
# OUT/scores.tsv, OUT/report.html.
top := $(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $(realpath $(lastword $(MAKEFILE_LIST)))))))
MODEL ?= $(top)/data/nano
DEMO ?= $(top)/build/demo
MAKE_DEMO ?= $(MAKE) -C $(top) demo
TRAIN ?= $(DEMO)/train.pgs
VAL ?= $(DEMO)/val.pgs
OUT ?= $(if $(filter $(top),$(CURDIR)),build/sweep,sweep)
LRS ?= 0.03 0.1 0.3
SEEDS ?= 0 1
STEPS ?= 64
BATCH ?= 8
VAL_EVERY ?= 16
LENGTH ?= 32
THREADS ?= 1
ARGS ?=
PG_BIN ?= $(top)/build

# Streams alone: of what else there may be, how it becomes one.
not_stream = $(filter %.jsonl %.json %.tar,$1)$(wildcard $1/.)
$(foreach f,$(TRAIN) $(VAL),$(if $(call not_stream,$f),$(error '$f' is no stream of examples: pg-fetch '$f' | pg-resize -m '$(MODEL)' | \
    pg-tokenize -m '$(MODEL)' > examples.pgs makes one)))
$(foreach f,$(filter-out $(DEMO)/%,$(TRAIN) $(VAL)),$(if $(wildcard $f),,$(error '$f' does not exist)))

SHELL := $(top)/pipelines/together.sh# bash; what ends make ends training
.SHELLFLAGS := -euo pipefail -c
export PATH := $(abspath $(PG_BIN)):$(PATH)

runs := $(foreach lr,$(LRS),$(foreach seed,$(SEEDS),lr$(lr)-seed$(seed)))
events := $(runs:%=$(OUT)/events/%.pgs)
captions := $(runs:%=$(OUT)/captions/%.pgs)
lr_of = $(patsubst lr%,%,$(firstword $(subst -seed, ,$1)))
seed_of = $(lastword $(subst -seed, ,$1))
# Status 4 means that all was done but some records carry errors, which the report shows.
but_records = || [ $$? -eq 4 ]

sweep: $(OUT)/scores.tsv $(OUT)/report.html
	@column -t -s "$$(printf '\t')" $(OUT)/scores.tsv
	@echo 'report: $(OUT)/report.html'

# What all runs have in common, and which there are; a new time stamp only where that changed.
settings := $(MODEL) steps $(STEPS) batch $(BATCH) val-every $(VAL_EVERY) length $(LENGTH) $(ARGS)
$(OUT)/settings $(OUT)/runs: always
	@mkdir -p $(@D)/events $(@D)/captions $(@D)/tuned
	@printf '%s\n' '$($(@F))' | cmp -s - $@ || printf '%s\n' '$($(@F))' >$@

$(OUT)/events/%.pgs: $(TRAIN) $(VAL) $(OUT)/settings
	@echo 'training $*'
	@pg-train -q -j $(THREADS) -m $(MODEL) -o $(OUT)/tuned/$* --lr $(call lr_of,$*) --seed $(call seed_of,$*) --steps $(STEPS) --batch $(BATCH) \
	    --val $(VAL) --val-every $(VAL_EVERY) $(ARGS) <$(TRAIN) >$@.new $(but_records)
	@mv $@.new $@

$(OUT)/captions/%.pgs: $(OUT)/events/%.pgs
	@echo 'captions of $*'
	@pg-infer -q -j $(THREADS) -m $(OUT)/tuned/$* -n $(LENGTH) <$(VAL) | pg-score -q --annotate >$@.new $(but_records)
	@mv $@.new $@

# The best first: run, held-out loss at the end, scores.
$(OUT)/scores.tsv: $(captions) $(events) $(OUT)/runs
	@for run in $(runs); do \
	    loss=$$(pg-render -f text $(OUT)/events/$$run.pgs | awk '/^val:/ {l = $$5} END {print l}' $(but_records)); \
	    { pg-score -q $(OUT)/captions/$$run.pgs 2>/dev/null $(but_records); } | \
	        awk -v run=$$run -v loss=$$loss -v OFS='\t' '{v[$$1] = $$2} END {print run, loss, v["CIDEr"], v["BLEU-4"], v["ROUGE-L"], v["exact"], v["distinct"]}'; \
	done | sort -t "$$(printf '\t')" -k3,3gr | sed '1i run\tloss\tCIDEr\tBLEU-4\tROUGE-L\texact\tdistinct' >$@.new
	@mv $@.new $@

$(OUT)/report.html: $(captions) $(events) $(OUT)/runs
	@pg-render -o $@ $(captions) $(events) $(but_records)

# The default examples are the demo's.
$(DEMO)/train.pgs $(DEMO)/val.pgs &:
	$(MAKE_DEMO)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(lastword $(MAKEFILE_LIST))

.PHONY: sweep help always
.DELETE_ON_ERROR:
