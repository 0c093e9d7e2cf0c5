# make install, uninstall, dist, deb, reproducible. The folders are GNU's, each to be set on the command line; PREFIX is prefix.
prefix ?= $(or $(PREFIX),/usr/local)
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
libdir ?= $(exec_prefix)/lib
libexecdir ?= $(exec_prefix)/libexec
includedir ?= $(prefix)/include
datarootdir ?= $(prefix)/share
datadir ?= $(datarootdir)
mandir ?= $(datarootdir)/man
pkgconfigdir ?= $(libdir)/pkgconfig
completionsdir ?= $(datadir)/bash-completion/completions

VERSION := $(shell sed -n 's/^\#define PG_VERSION "\(.*\)"/\1/p' tools/tool.h)
DATA_PROGRAMS := $(filter $(BUILD)/data/%,$(HELPERS))
# What the tools include is what other programs may.
PUBLIC_HEADERS = $(sort $(filter common/%.h,$(shell $(CC) -MM $(PG_CPPFLAGS) $(sort $(wildcard tools/*.c)))))
FOLDERS := prefix bindir libdir libexecdir includedir datadir mandir pkgconfigdir completionsdir
INSTALLER = DESTDIR='$(DESTDIR)' $(foreach d,$(FOLDERS),$d='$($d)') packaging/install.sh

$(BUILD)/pg.bash: packaging/completion.sh packaging/pg-demo $(TOOLS:%=$(BUILD)/%)
	$(call short,GEN)packaging/completion.sh $(TOOLS:%=$(BUILD)/%) packaging/pg-demo >$@.new
	@mv $@.new $@

install: all $(BUILD)/pg.bash $(DATA_PROGRAMS)
	@BUILD='$(BUILD)' VERSION='$(VERSION)' TOOLS='$(TOOLS)' PROGRAMS='$(DATA_PROGRAMS)' HEADERS='$(PUBLIC_HEADERS)' PLUGIN='$(MPI_PLUGIN)' \
	    LINK='$(LIBS) -lstdc++ -pthread' $(INSTALLER) install
uninstall:
	@$(INSTALLER) uninstall

dist:
	@packaging/dist.sh $(BUILD)/pg-$(VERSION).tar.gz
	@echo '$(BUILD)/pg-$(VERSION).tar.gz'
deb: dist
	@pipelines/packages.sh build deb
	@packaging/deb.sh $(BUILD)/pg-$(VERSION).tar.gz $(VERSION) $(BUILD)/deb
	@ls $(BUILD)/deb/*.deb
# Builds everything twice, in other folders and at other times, and compares.
reproducible:
	@packaging/reproducible.sh

.PHONY: install uninstall dist deb reproducible
