# pg: fine-tune PaliGemma and caption images. `make`, `make check`, `make demo`, `make install`; see README.md.
BUILD ?= build
CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
PYTHON ?= python3

WARN = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion $(WERROR)
SAN = $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer)
comma := ,
ifneq ($(filter-out address undefined thread address$(comma)undefined,$(SANITIZER)),)
$(error SANITIZER must be address, undefined or thread)
endif
# -ffp-contract=off: products and sums are rounded one by one unless a kernel asks for FMA, so every compiler gives the same bits.
PG_CPPFLAGS = -Icommon -Itools -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE $(BLIS_CFLAGS)
PG_CFLAGS = -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden -pthread $(WARN) $(SAN)
PG_CXXFLAGS = -std=c++17 -pthread -Wall -Wextra $(WERROR) $(SAN)
# The serial BLIS: threads are ours, so that results do not depend on their number.
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
BLIS_DIR ?= $(firstword $(wildcard /usr/lib/$(MULTIARCH)/blis-serial /usr/lib/*/blis-serial))
BLIS_CFLAGS ?= $(addprefix -I,$(firstword $(wildcard /usr/include/$(MULTIARCH)/blis-serial)))
LIBS_IMAGE = -lpng -ljpeg
LIBS_TEXT = -lsentencepiece -lunistring
LIBS_KERNELS = $(if $(BLIS_DIR),$(BLIS_DIR)/libblis.a,-lblis)
LIBS_DATA = -lexpat
LIBS_NET = -lcurl -lcrypto
LIBS_FETCH = -larchive
LIBS_SERVE = -lmicrohttpd -lcrypt
LIBS = -lmsgpackc -ljansson -lz $(LIBS_NET) $(LIBS_IMAGE) $(LIBS_TEXT) $(LIBS_KERNELS) -lm

LIB_SRC := $(sort $(wildcard common/*/*.c))
LIB_CXX := $(sort $(wildcard common/*/*.cc))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(LIB_CXX:%.cc=$(BUILD)/%.o)
TOOLS := $(sort $(patsubst tools/%.c,%,$(wildcard tools/pg-*.c)))
TOOL_COMMON := $(BUILD)/tools/tool.o $(BUILD)/tools/tool_same.o
UNIT := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c))
FAULTS := $(BUILD)/tests/faults/inject.so
HELPERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/aux_*.c) $(filter-out data/augment_% data/emoji_%,$(wildcard data/*.c)))

all: $(TOOLS:%=$(BUILD)/%)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(CXX) $(PG_CPPFLAGS) $(CPPFLAGS) $(PG_CXXFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@
# Files that hold code for one instruction set; only called where the CPU has it.
$(BUILD)/common/kernels/%_avx2.o: PG_CFLAGS += -mavx2 -mfma -mf16c
$(BUILD)/common/kernels/%_avx512.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512
$(BUILD)/common/kernels/%_bf16.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mfma -mf16c
$(BUILD)/common/kernels/%_vnni.o: PG_CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c

$(BUILD)/libpg.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcsD $@ $^
$(TOOLS:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/tools/%.o $(TOOL_COMMON) $(BUILD)/libpg.a
	$(CXX) $(SAN) $(LDFLAGS) -pthread -Wl,--wrap=bli_abort $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS) $(LDLIBS)
part_of = $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tools/$(1)_*.c)))
$(BUILD)/pg-render: $(call part_of,render) $(BUILD)/tools/render_assets.o
# The report's style and script go into the program as they are.
$(BUILD)/tools/render_assets.o: tools/render_assets.S $(wildcard tools/render/*)
	@mkdir -p $(@D)
	$(CC) -c $< -o $@
$(BUILD)/pg-fetch: $(call part_of,fetch)
$(BUILD)/pg-fetch: LDLIBS += $(LIBS_FETCH)
$(BUILD)/pg-convert: $(call part_of,convert)
$(BUILD)/pg-score: $(call part_of,score)
$(BUILD)/pg-info: $(call part_of,info)
$(BUILD)/pg-infer: $(call part_of,infer)
$(BUILD)/pg-train: $(call part_of,train)
$(BUILD)/pg-serve: $(call part_of,serve) $(BUILD)/tools/serve_assets.o
$(BUILD)/pg-serve: LDLIBS += $(LIBS_SERVE)
# The page's files go into the program as they are.
$(BUILD)/tools/serve_assets.o: tools/serve_assets.S $(wildcard tools/serve/*)
	@mkdir -p $(@D)
	$(CC) -c $< -o $@
$(UNIT): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libpg.a
	$(CXX) $(SAN) $(LDFLAGS) -pthread $^ -o $@ -lcmocka $(LIBS) $(LDLIBS)
$(BUILD)/data/emoji: $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard data/emoji_*.c)))
$(BUILD)/data/augment: $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard data/augment_*.c)))
$(BUILD)/data/emoji: LDLIBS += $(LIBS_DATA)
$(HELPERS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libpg.a
	$(CXX) $(SAN) $(LDFLAGS) -pthread $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS) $(LDLIBS)

unit: $(UNIT)
	@for t in $(UNIT); do PG_BUILD=$(BUILD) $$t || exit 1; done

everything: all $(UNIT) $(HELPERS) $(FAULTS)

# Calls that fail on purpose: never built with a sanitizer, which replaces some of them itself.
$(FAULTS): tests/faults/inject.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -fPIC -shared $(WARN) $(CFLAGS) $(CPPFLAGS) $< -o $@
faults: everything
	@PG_BUILD=$(BUILD) tests/faults/run.sh
kills: everything
	@PG_BUILD=$(BUILD) tests/faults/run.sh kills
tsan:
	@tests/faults/tsan.sh

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
	rm -rf $(BUILD) build-gcc build-clang build-san

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: faults kills tsan all bench scale interop demo nano sets interop-net everything unit deps install-deps check clean
.SECONDARY:
