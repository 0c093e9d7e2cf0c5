# pg: fine-tune PaliGemma and caption images. `make`, `make check`, `make demo`, `make install`; see README.md.
BUILD ?= build
CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
PYTHON ?= python3

# A command is shown as `CC file`, whole with V=1, not at all with make -s.
short = $(if $(filter-out 0,$(V))$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '  %-3s  %s\n' $(1) $@; )

WARN = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion $(WERROR)
SAN = $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer) $(FUZZ_SAN)
comma := ,
ifneq ($(filter-out address undefined thread address$(comma)undefined,$(SANITIZER)),)
$(error SANITIZER must be address, undefined or thread)
endif
# What makes a fault in a parser harder to use; HARDENING=no leaves it out. CPPFLAGS, CFLAGS and LDFLAGS come later on each command, so
# theirs win. FORTIFY wants optimisation, hides things from sanitizers, and is often in CPPFLAGS already.
HARDENING ?= yes
ifeq ($(HARDENING),yes)
OPTIMISATION := $(lastword -O0 $(filter -O%,$(CPPFLAGS) $(CFLAGS)))
ifneq ($(filter -O1 -O2 -O3,$(OPTIMISATION)),)
ifeq ($(SANITIZER)$(findstring FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),)
FORTIFY := -D_FORTIFY_SOURCE=$(shell $(CC) -O2 -D_FORTIFY_SOURCE=3 -E -dM -include features.h -x c /dev/null 2>/dev/null | \
	grep -q '__USE_FORTIFY_LEVEL 3' && echo 3 || echo 2)
endif
endif
# clang has the second for ARM since version 18 only.
STACK := -fstack-protector-strong $(shell $(CC) -Werror -fstack-clash-protection -S -x c /dev/null -o /dev/null 2>/dev/null && echo -fstack-clash-protection)
BRANCHES = $(if $(filter x86_64,$(MACHINE)),-fcf-protection)$(if $(filter aarch64,$(MACHINE)),-mbranch-protection=standard)
HARD_CFLAGS = -fPIE -Wformat -Wformat-security $(if $(SANITIZER),,$(STACK) $(BRANCHES))
HARD_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack
endif
# -ffp-contract=off: products and sums are rounded one by one unless a kernel asks for FMA, so every compiler gives the same bits.
PG_CPPFLAGS = -Icommon -Itools -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE $(FORTIFY) $(BLIS_CFLAGS)
PG_CFLAGS = -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden -pthread $(HARD_CFLAGS) $(WARN) $(SAN)
PG_CXXFLAGS = -std=c++17 -pthread $(HARD_CFLAGS) -Wall -Wextra $(WERROR) $(SAN)
# The serial BLIS: threads are ours, so that results do not depend on their number.
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))
BLIS_DIR ?= $(firstword $(wildcard /usr/lib/$(MULTIARCH)/blis-serial /usr/lib/*/blis-serial))
BLIS_CFLAGS ?= $(addprefix -I,$(firstword $(wildcard /usr/include/$(MULTIARCH)/blis-serial)))
LIBS_IMAGE = -lpng -ljpeg
LIBS_TEXT = -lsentencepiece -lunistring
LIBS_KERNELS = $(if $(BLIS_DIR),$(BLIS_DIR)/libblis.a,-lblis)
LIBS_DATA = -lexpat
LIBS_NET = -lcurl -lcrypto
LIBS_FETCH = -larchive
LIBS_SERVE = -lmicrohttpd -lcrypt
# Training on several machines: built where Open MPI is installed, into a file of its own; `make MPI=0` leaves it out.
MPI_LIBS := $(shell pkg-config --libs ompi-c 2>/dev/null || mpicc --showme:link 2>/dev/null)
MPI_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags ompi-c 2>/dev/null || mpicc --showme:compile 2>/dev/null))
MPI ?= $(if $(MPI_LIBS),1,0)
MPI_PLUGIN := $(if $(filter 0,$(MPI)),,$(BUILD)/pg-mpi.so)
LIBS = -lmsgpackc -ljansson -lz $(LIBS_NET) $(LIBS_IMAGE) $(LIBS_TEXT) $(LIBS_KERNELS) -lm

LIB_SRC := $(sort $(wildcard common/*/*.c))
LIB_CXX := $(sort $(wildcard common/*/*.cc))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(LIB_CXX:%.cc=$(BUILD)/%.o)
TOOLS := $(sort $(patsubst tools/%.c,%,$(wildcard tools/pg-*.c)))
TOOL_COMMON := $(BUILD)/tools/tool.o $(BUILD)/tools/tool_same.o $(BUILD)/tools/tool_seen.o
UNIT := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c))
FAULTS := $(BUILD)/tests/faults/inject.so
HELPERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/aux_*.c) $(filter-out data/augment_% data/emoji_%,$(wildcard data/*.c)))

all: $(TOOLS:%=$(BUILD)/%) $(MPI_PLUGIN)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call short,CC)$(CC) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(call short,CXX)$(CXX) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CXXFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@
# Files that hold code for one instruction set; only called where the CPU has it. Elsewhere they are empty. NEON needs no option.
ifeq ($(MACHINE),x86_64)
$(BUILD)/common/kernels/%_avx2.o: PG_CFLAGS += -mavx2 -mfma -mf16c
$(BUILD)/common/kernels/%_avx512.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512
$(BUILD)/common/kernels/%_bf16.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mfma -mf16c
$(BUILD)/common/kernels/%_vnni.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
endif

$(BUILD)/libpg.a: $(LIB_OBJ)
	@rm -f $@
	$(call short,AR)$(AR) rcsD $@ $^
$(TOOLS:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/tools/%.o $(TOOL_COMMON) $(BUILD)/libpg.a
	$(call short,LD)$(CXX) $(SAN) $(HARD_LDFLAGS) $(LDFLAGS) -pthread -Wl,--wrap=bli_abort $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS) $(LDLIBS)
part_of = $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tools/$(1)_*.c)))
$(BUILD)/pg-render: $(call part_of,render) $(BUILD)/tools/render_assets.o
# The report's style and script go into the program as they are.
$(BUILD)/tools/render_assets.o: tools/render_assets.S $(wildcard tools/render/*)
	@mkdir -p $(@D)
	$(call short,CC)$(CC) -c $< -o $@
$(BUILD)/pg-fetch: $(call part_of,fetch)
$(BUILD)/pg-fetch: LDLIBS += $(LIBS_FETCH)
$(BUILD)/pg-convert: $(call part_of,convert)
$(BUILD)/pg-score: $(call part_of,score)
$(BUILD)/pg-info: $(call part_of,info)
$(BUILD)/pg-infer: $(call part_of,infer)
$(BUILD)/pg-train: $(call part_of,train)
# pg-train loads it when mpirun has started it.
$(BUILD)/pg-mpi.so: tools/mpi_link.c tools/mpi_link.h common/train/link.h common/base/err.h Makefile
	@mkdir -p $(@D)
	$(call short,CC)$(CC) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CFLAGS) $(CFLAGS) $(MPI_CFLAGS) $(LDFLAGS) -fPIC -shared $< -o $@ $(MPI_LIBS)
$(BUILD)/pg-serve: $(call part_of,serve) $(BUILD)/tools/serve_assets.o
$(BUILD)/pg-serve: LDLIBS += $(LIBS_SERVE)
# The page's files go into the program as they are.
$(BUILD)/tools/serve_assets.o: tools/serve_assets.S $(wildcard tools/serve/*)
	@mkdir -p $(@D)
	$(call short,CC)$(CC) -c $< -o $@
$(UNIT): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libpg.a
	$(call short,LD)$(CXX) $(SAN) $(HARD_LDFLAGS) $(LDFLAGS) -pthread $^ -o $@ -lcmocka $(LIBS) $(LDLIBS)
$(BUILD)/data/emoji: $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard data/emoji_*.c)))
$(BUILD)/data/augment: $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard data/augment_*.c)))
$(BUILD)/data/emoji: LDLIBS += $(LIBS_DATA)
$(HELPERS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libpg.a
	$(call short,LD)$(CXX) $(SAN) $(HARD_LDFLAGS) $(LDFLAGS) -pthread $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS) $(LDLIBS)

# Fuzz targets (tests/fuzz/fuzz.h): with replay.c they run kept inputs; in a build of `make fuzz`, with libFuzzer, they search.
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_MAIN = $(BUILD)/tests/fuzz/replay.o
$(BUILD)/tests/fuzz/%.o: PG_CPPFLAGS += -Itests/fuzz
# A tool's files as parts of a target: exit comes back to it.
$(BUILD)/tests/fuzz/tools/%.o: tools/%.c Makefile
	@mkdir -p $(@D)
	$(call short,CC)$(CC) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CFLAGS) $(CFLAGS) -Dexit=fuzz_exit -MMD -MP -c $< -o $@
FUZZ_COMMON = $(TOOL_COMMON:$(BUILD)/tools/%=$(BUILD)/tests/fuzz/tools/%)
fuzz_part = $(patsubst $(BUILD)/tools/%,$(BUILD)/tests/fuzz/tools/%,$(filter-out %_assets.o,$(call part_of,$(1)))) $(FUZZ_COMMON)
FETCH_FUZZERS = $(addprefix $(BUILD)/tests/fuzz/fuzz_,jsonl coco tar)
$(FETCH_FUZZERS): $(BUILD)/tests/fuzz/tool_fetch.o $(addprefix $(BUILD)/tests/fuzz/tools/,fetch_files.o fetch_jsonl.o fetch_coco.o fetch_tar.o fetch_remarks.o fetch_order.o fetch_seen.o) $(FUZZ_COMMON)
$(FETCH_FUZZERS): LDLIBS += $(LIBS_FETCH)
$(BUILD)/tests/fuzz/fuzz_score: $(call fuzz_part,score)
$(BUILD)/tests/fuzz/fuzz_render: $(call fuzz_part,render) $(BUILD)/tools/render_assets.o
SERVE_FUZZERS = $(addprefix $(BUILD)/tests/fuzz/fuzz_,form child)
$(SERVE_FUZZERS): $(call fuzz_part,serve) $(BUILD)/tools/serve_assets.o
$(SERVE_FUZZERS): LDLIBS += $(LIBS_SERVE)
$(BUILD)/tests/fuzz/fuzz_net: FUZZ_WRAP = -Wl,--wrap=pg_net_fetch
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/fuzz/support.o $(FUZZ_MAIN) $(BUILD)/libpg.a
	$(call short,LD)$(CXX) $(SAN) $(HARD_LDFLAGS) $(FUZZ_LINK) $(FUZZ_WRAP) $(LDFLAGS) -pthread $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS) $(LDLIBS)
fuzzers: $(FUZZERS)
# Kernels read no strangers' data, and an instrumented one takes a compiler a quarter of an hour.
ifdef FUZZ_SAN
$(BUILD)/common/kernels/%.o: SAN =
endif

# SECONDS=60 for each target, TARGETS='npz image' some of them. Ends with executions by target; fails on a finding.
FUZZ_CC ?= clang
FUZZ = $(MAKE) --no-print-directory BUILD=build-fuzz CC='$(FUZZ_CC)' CXX='$(FUZZ_CC)++' SANITIZER=address,undefined FUZZ_MAIN= FUZZ_LINK=-fsanitize=fuzzer \
	FUZZ_SAN='-DPG_LIBFUZZER -fsanitize=fuzzer-no-link -fno-sanitize-recover=undefined' CFLAGS='-O1 -g' CXXFLAGS='-O1 -g'
fuzz:
	+@$(FUZZ) fuzzers
	@SECONDS_EACH=$(or $(SECONDS),60) tests/fuzz/run.sh build-fuzz $(TARGETS)

# clang-tidy, cppcheck and gcc's analyzer, which CONTRIBUTING.md names the packages of; LINT='tidy' some of them.
lint:
	@CPPFLAGS='$(BLIS_CFLAGS) $(MPI_CFLAGS)' tests/lint.sh $(if $(filter default,$(origin LINT)),,$(LINT)) # make has a LINT of its own

# Lines that unit tests, kept fuzz inputs and command lines reach, in a build of its own; PARTS='unit replay' some of them.
PARTS ?= unit replay cli
coverage:
	+@$(MAKE) --no-print-directory BUILD=build-cov CFLAGS='-O1 -g --coverage' LDFLAGS=--coverage everything
	@find build-cov -name '*.gcda' -delete
	-@PG_BUILD=build-cov PG_COVERAGE=1 tests/run.sh $(PARTS)
	@gcovr -r . --object-directory build-cov --exclude-unreachable-branches --print-summary --filter 'common/' --filter 'tools/' --exclude 'common/kernels/.*\.h' \
		--json-summary build-cov/coverage.json --txt build-cov/coverage.txt --html-details build-cov/coverage.html

unit: $(UNIT)
	@for t in $(UNIT); do PG_BUILD=$(BUILD) $$t || exit 1; done

everything: all $(UNIT) $(HELPERS) $(FUZZERS) $(FAULTS)

# Calls that fail on purpose: never built with a sanitizer, which replaces some of them itself.
$(FAULTS): tests/faults/inject.c Makefile
	@mkdir -p $(@D)
	$(call short,CC)$(CC) -std=gnu11 -fPIC -shared $(WARN) $(CFLAGS) $(CPPFLAGS) $< -o $@
faults: everything
	@PG_BUILD=$(BUILD) tests/faults/run.sh
kills: everything
	@PG_BUILD=$(BUILD) tests/faults/run.sh kills
tsan:
	@tests/faults/tsan.sh
# On another machine: cross-compiled, run by qemu. Installs both.
arm64:
	@pipelines/packages.sh build arm64
	@tests/arm64.sh $(TESTS)

# Debian and Ubuntu packages that are needed: listed with their purpose in pipelines/packages.txt.
deps:
	@pipelines/packages.sh --list build
install-deps:
	@pipelines/packages.sh build check
check: install-deps
	@$(MAKE) --no-print-directory everything
	@tests/run.sh

# Against transformers, PEFT and torch; installs them into a folder of their own. Not part of check.
interop: all $(HELPERS)
	@tests/interop/run.sh $(BUILD)

demo:
	@pipelines/packages.sh build demo
	@$(MAKE) --no-print-directory all $(HELPERS)
	@pipelines/demo.sh $(BUILD)
nano:
	@pipelines/packages.sh build demo nano
	@$(MAKE) --no-print-directory all $(HELPERS)
	@data/nano.sh $(BUILD)
	@data/measure.sh $(BUILD) data/nano
# Noto, EmojiOne and Tux Paint's stamps as folders with JSON lines, for experiments: the demo needs none of them.
sets:
	@pipelines/packages.sh build sets
	@$(MAKE) --no-print-directory all $(HELPERS)
	@data/sets.sh $(BUILD) $(BUILD)/sets

# Not part of check: it installs the hosts' official Python clients.
interop-net: all
	@tests/net/interop.sh $(BUILD)

# BENCH: names of results, or beginnings of them; see tests/bench/run.sh.
bench: all $(BUILD)/tests/bench/aux_bench $(BUILD)/data/init
	@tests/bench/run.sh $(BUILD) $(BENCH)

# A million records from end to end, and how preprocessing scales: figures for tests/bench/LOG.md.
scale: all $(BUILD)/tests/bench/aux_picture
	@tests/bench/scale.sh $(BUILD)
	@tests/bench/preprocess.sh $(BUILD)

include packaging/install.mk

clean:
	rm -rf $(BUILD) build-gcc build-clang build-san build-fuzz build-cov build-arm64 build-arm64-root

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all lint coverage fuzz fuzzers faults kills tsan arm64 bench scale interop demo nano sets interop-net everything unit deps install-deps check clean
.SECONDARY:
