# e2blua. Two commands for newcomers: `make run` and `make test`.
# CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX and DESTDIR belong to the user.

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
CFLAGS ?= -O2 -g
B ?= build
SAN ?=
T ?=

ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
MAKEFLAGS += --no-builtin-rules --no-print-directory
# One short line a step; V=1 shows the commands.
Q := $(if $(V),,@)
SAY = @$(if $(V),:,printf '  %-5s %s\n')

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wwrite-strings \
	-Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wundef
ifneq ($(WERROR),)
WARN += -Werror
endif
ifneq ($(SAN),)
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
endif

pc = $(shell pkg-config $(1) 2>/dev/null)
LUA_CFLAGS = $(call pc,--cflags lua5.4)
LUA_LIB = $(call pc,--variable=libdir lua5.4)
DEFS := -D_GNU_SOURCE -DE2B_VERSION='"$(VERSION)"' -DE2B_PREFIX='"$(PREFIX)"'
E2B_CFLAGS = -std=c11 -fPIC -pthread $(WARN) $(SANFLAGS) $(DEFS) -Ihost \
	-I$(B)/gen -isystem /usr/share/include/llhttp $(LUA_CFLAGS) \
	-fstack-protector-strong
COMPILE = $(CC) $(E2B_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP

# ---- what is built of what -------------------------------------------------
# hash.c needs OpenSSL, which costs start time: it goes into modules only.
BASE_SRC := $(filter-out host/base/hash.c,$(wildcard host/base/*.c))
CORE_SRC := $(wildcard host/net/core/*.c)
ENVD_SRC := $(wildcard host/envd/*.c)
# Bindings that are Lua modules of their own, loaded on first require.
MOD_BIND := host/bind/httpc.c host/bind/archive.c host/bind/hash.c \
	$(wildcard host/bind/engine*.c)
BIND_SRC := $(filter-out $(MOD_BIND),$(wildcard host/bind/*.c))
HTTPC_SRC := $(wildcard host/bind/httpc.c host/net/client/httpc*.c \
	host/net/client/tls.c)
ARCHIVE_SRC := $(wildcard host/bind/archive.c host/net/client/archive.c \
	host/net/client/unpack.c host/base/hash.c)
HASH_SRC := $(wildcard host/bind/hash.c host/base/hash.c)
ENGINE_SRC := $(wildcard host/bind/engine*.c host/net/server/*.c \
	$(filter-out host/sandbox/%_gen.c,$(wildcard host/sandbox/*.c)) \
	host/base/hash.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
LLHTTP_OBJ := $(addprefix $(B)/obj/llhttp/,api.o http.o llhttp.o)
BASE_OBJ := $(call obj,$(BASE_SRC))
CORE_OBJ := $(call obj,$(CORE_SRC)) $(LLHTTP_OBJ)

MODULES := $(if $(HTTPC_SRC),$(B)/modules/e2b_httpc.so) \
	$(if $(filter host/bind/archive.c,$(ARCHIVE_SRC)),$(B)/modules/e2b_archive.so) \
	$(if $(filter host/bind/hash.c,$(HASH_SRC)),$(B)/modules/e2b_hash.so) \
	$(if $(filter host/bind/engine.c,$(ENGINE_SRC)),$(B)/modules/e2b_engine.so)
PROGRAMS := $(if $(wildcard host/main.c),$(B)/e2blua) \
	$(if $(ENVD_SRC),$(B)/envd)

.PHONY: all run test test-user test-online check bench install uninstall clean \
	format help deps deps-test deps-check unit unit-v2 lint strict asan asan-test fuzz \
	fuzz-run coverage \
	build-all build-tests test-all docs

all: deps ## build everything
	@$(MAKE) build-all

build-all: $(PROGRAMS) $(MODULES)
	@:

-include $(shell find $(B) -name '*.d' 2>/dev/null)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(COMPILE) -c -o $@ $<

# llhttp comes as C sources with Debian's node-llhttp; strict mode refuses what
# request smuggling lives on.
$(B)/obj/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(CC) -O2 -g -fPIC -DLLHTTP_STRICT_MODE=1 -isystem \
		/usr/share/include/llhttp $(CFLAGS) $(SANFLAGS) -w -c -o $@ $<

$(B)/libbase.a: $(BASE_OBJ)
	@rm -f $@; ar rcs $@ $^
$(B)/libcore.a: $(CORE_OBJ)
	@rm -f $@; ar rcs $@ $^

# ---- the host --------------------------------------------------------------
EMBED_LUA := $(shell find stdlib scripts templates -path stdlib/meta -prune -o \
	-name '*.lua' -print -o -name '*.jsonl' -print 2>/dev/null | sort)
# Debian's lua-argparse, carried so that an installed copy needs no package.
ARGPARSE := $(or $(firstword $(wildcard /usr/share/lua/5.4/argparse.lua \
	/usr/share/lua/5.1/argparse.lua)),/usr/share/lua/5.4/argparse.lua)
$(B)/embed: host/embed/embed.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -o $@ $<
$(B)/gen/stdlib_data.c: $(B)/embed $(EMBED_LUA) $(ARGPARSE) Makefile
	@mkdir -p $(@D)
	$(SAY) EMBED $@
	$(Q)$(B)/embed $@ $(EMBED_LUA) stdlib/argparse.lua=$(ARGPARSE)
$(B)/obj/stdlib_data.o: $(B)/gen/stdlib_data.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(COMPILE) -c -o $@ $<

LUA_STATIC = -Wl,--whole-archive $(LUA_LIB)/liblua5.4.a -Wl,--no-whole-archive
HOST_OBJ = $(call obj,$(wildcard host/*.c)) $(call obj,$(BIND_SRC)) $(B)/obj/stdlib_data.o
# jansson whole: the modules use more of it than the program does.
HOST_LIBS = -l:libuv_a.a -Wl,--whole-archive -l:libjansson.a \
	-Wl,--no-whole-archive -l:liblua5.4-cjson.a \
	-l:liblua5.4-lpeg.a -lz -lm -ldl -lpthread
$(B)/e2blua: $(HOST_OBJ) $(B)/libbase.a $(B)/libcore.a
	$(SAY) CC $@
	$(Q)$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -Wl,-E -o $@ $(HOST_OBJ) \
		-Wl,--whole-archive $(B)/libbase.a $(B)/libcore.a \
		-Wl,--no-whole-archive $(LUA_STATIC) $(HOST_LIBS)

# ---- Lua modules -----------------------------------------------------------
MODLINK = $(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -shared -o $@
# Stays loaded: a name look-up given up at the end still runs in libcurl.
$(B)/modules/e2b_httpc.so: $(call obj,$(HTTPC_SRC))
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(MODLINK) -Wl,-z,nodelete $^ -lcurl
$(B)/modules/e2b_archive.so: $(call obj,$(ARCHIVE_SRC))
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(MODLINK) $^ -larchive -lcrypto
$(B)/modules/e2b_hash.so: $(call obj,$(HASH_SRC))
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(MODLINK) $^ -lcrypto
$(B)/modules/e2b_engine.so: $(call obj,$(ENGINE_SRC)) $(B)/obj/envd_blob.o
	@mkdir -p $(@D)
	$(SAY) LINK $@
	$(Q)$(MODLINK) $^ -lsqlite3 -lcrypto -lnftnl -lmnl

# The seccomp program is made at build time by libseccomp; nothing of it is
# linked into the product.
$(B)/seccomp_gen: host/sandbox/seccomp_gen.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -o $@ $< -lseccomp
$(B)/gen/seccomp_table.h: $(B)/seccomp_gen
	@mkdir -p $(@D)
	$(SAY) GEN $@
	$(Q)$(B)/seccomp_gen > $@.tmp && mv $@.tmp $@
$(B)/obj/host/sandbox/seccomp.o: $(B)/gen/seccomp_table.h

# ---- envd: static, carried by the engine module as a blob ------------------
ENVD_LIBS = -l:libuv_a.a -l:libjansson.a -l:libz.a -lpthread -ldl
# ASan cannot be static: the sanitizer build links envd dynamically, for tests
# of envd outside a sandbox; inside sandboxes the plain static one runs.
# libuv's getpwuid_r, which envd never calls, makes a static link warn.
ENVD_LINK = $(if $(SAN),,-static $(if $(findstring no-warnings,$(shell ld --help \
	2>/dev/null)),-Wl$(,)--no-warnings))
, := ,
$(B)/envd: $(call obj,$(ENVD_SRC)) $(B)/libbase.a $(B)/libcore.a
	$(SAY) CC $@
	$(Q)$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) $(ENVD_LINK) -o $@ \
		$(call obj,$(ENVD_SRC)) $(B)/libcore.a $(B)/libbase.a $(ENVD_LIBS)
ifeq ($(SAN),)
ENVD_BLOB := $(B)/envd
else
ENVD_BLOB := build/envd
build/envd:
	$(MAKE) SAN= B=build build/envd
endif
$(B)/obj/envd_blob.o: $(ENVD_BLOB)
	@mkdir -p $(@D) $(B)/gen
	$(SAY) STRIP $@
	$(Q)strip -o $(B)/gen/envd $(ENVD_BLOB)
	$(Q)cd $(B)/gen && ld -r -b binary -z noexecstack -o $(abspath $@) envd

# For the tests: envd's parts without its main.
$(B)/libenvd.a: $(call obj,$(filter-out host/envd/main.c,$(ENVD_SRC)))
	@rm -f $@; ar rcs $@ $^

# ---- tests -----------------------------------------------------------------
CTEST_SRC := $(shell find tests/host tests/bind -name '*_test.c' 2>/dev/null)
CTESTS := $(patsubst tests/%.c,$(B)/tests/%,$(CTEST_SRC))
$(B)/tests/%: tests/%.c $(B)/libbase.a $(B)/libcore.a $(B)/libsandbox.a
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(COMPILE) -Itests/lib -o $@ $< $(B)/libsandbox.a $(B)/libcore.a \
		$(B)/libbase.a $(LDFLAGS) -lcmocka -l:libuv_a.a -l:libjansson.a \
		-lsqlite3 -lcrypto -lnftnl -lmnl -lz -lpthread -ldl \
		-Wl,--as-needed -lcurl
# Pid 1 of the launcher's tests; static, hence without sanitizers.
$(B)/tests/host/sandbox/inside: tests/host/sandbox/inside.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -static -o $@ $<
# The benches' C half; static, as it runs in sandboxes too.
$(B)/bench/probe: tests/bench/probe.c
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -static -o $@ $<
$(B)/tests/host/sandbox/launcher_test $(B)/tests/host/sandbox/disk_test: | \
	$(B)/tests/host/sandbox/inside
$(B)/tests/host/envd/%: tests/host/envd/%.c $(B)/libenvd.a $(B)/libcore.a $(B)/libbase.a
	@mkdir -p $(@D)
	$(SAY) CC $@
	$(Q)$(COMPILE) -Itests/lib -o $@ $< $(B)/libenvd.a $(B)/libcore.a \
		$(B)/libbase.a $(LDFLAGS) -lcmocka -l:libuv_a.a \
		-l:libjansson.a -lz -lpthread -ldl
SANDBOX_OBJ := $(filter-out $(B)/obj/host/bind/%,$(call obj,$(ENGINE_SRC))) \
	$(filter-out $(B)/obj/host/bind/% $(B)/obj/host/base/%,$(call obj,$(ARCHIVE_SRC))) \
	$(filter-out $(B)/obj/host/bind/%,$(call obj,$(HTTPC_SRC)))
$(B)/libsandbox.a: $(SANDBOX_OBJ)
	@rm -f $@; ar rcs $@ $^

unit: build-all $(CTESTS) ## C tests only (T=name for some)
	@sh tests/lib/ctests.sh $(CHOSEN)
CHOSEN = $(foreach t,$(CTESTS),$(if $(T),$(if $(findstring $(T),$(t)),$(t)),$(t)))

V2_TESTS = $(B)/tests/host/sandbox/cgroup_test $(B)/tests/host/sandbox/cgroup_v2_test
unit-v2: build-all $(V2_TESTS) ## the cgroup tests on a kernel with cgroup v2 alone
	@sh host/deps.sh v2
	@sh tests/lib/uml.sh $(B) $(V2_TESTS)

test: deps-test ## set up, build, run all tests (T=name for some)
	@E2BLUA_TEST_USER=1 $(MAKE) test-all
test-user: deps-test ## as root: what an ordinary user repeats of the tests (T=name)
	@$(MAKE) build-tests
	@sh tests/lib/user.sh $(B)/e2blua "$(T)" \
		"$${E2BLUA_CACHE:-$${E2BLUA_HOME:-/var/lib/e2blua}/cache}"
build-tests: build-all $(CTESTS) $(B)/bench/probe
test-all: build-tests
	@sh tests/lib/run.sh $(B)/e2blua "$(T)" $(CHOSEN)

# A newcomer's first run: this machine, no key, nobody's money. LIVE=1 takes the
# model that the environment or .env names.
test-online: deps-test ## what needs the registries: installs, the official clients
	@$(MAKE) build-all
	@sh tests/online/run.sh $(B)/e2blua
	@sh tests/clients/run.sh $(B)/e2blua

run: deps ## build, then make the calculator in a sandbox (LIVE=1: by a model)
	@$(MAKE) build-all
	@E2BLUA_BACKEND=local E2BLUA_MODEL=$(if $(LIVE),live,offline) \
		$(B)/e2blua apps/calculator.lua

deps: ## install what building and running needs
	@sh host/deps.sh run
deps-test:
	@sh host/deps.sh run test

# ---- checks ----------------------------------------------------------------
C_ALL = $(shell find host tests -name '*.c')
H_ALL = $(shell find host tests -name '*.h')
LINT_SRC = $(filter host/%,$(filter-out host/sandbox/%_gen.c,$(C_ALL)))
LINT_FLAGS = -std=c11 $(DEFS) -Ihost -Itests/lib -I$(B)/gen \
	-isystem /usr/share/include/llhttp $(LUA_CFLAGS)

TIDY_FLAGS = -std=c11 -D_GNU_SOURCE -DE2B_VERSION="0" -DE2B_PREFIX="/" -Ihost \
	-I$(B)/gen -isystem /usr/share/include/llhttp $(LUA_CFLAGS)

lint: deps-check ## clang-tidy, cppcheck, luacheck, layers, headers
	@$(MAKE) $(if $(wildcard host/sandbox/seccomp_gen.c),$(B)/gen/seccomp_table.h,build-all)
	@sh tests/lib/layers.sh
	@for h in $(H_ALL); do \
		$(CC) $(LINT_FLAGS) -Wall -Wextra -Werror -fsyntax-only -x c $$h || \
		exit 1; done
	@# One file a run: with several, version 14 takes every later va_list for
	@# uninitialized.
	@printf '%s\n' $(LINT_SRC) | TIDY='$(TIDY_FLAGS)' xargs -P$$(nproc) -n1 \
		sh -c 'clang-tidy --quiet "$$@" -- $$TIDY' tidy
	@cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--enable=warning,performance,portability \
		--suppress=missingIncludeSystem --library=posix \
		--suppress=normalCheckLevelMaxBranches \
		--suppress=readdirCalled -j$$(nproc) \
		-D_GNU_SOURCE -Ihost $(LINT_SRC)
	@luacheck -q $(wildcard stdlib scripts templates examples tests)
	@echo "lint: clean"

strict: ## the whole tree with gcc and clang, warnings as errors
	@$(MAKE) B=build/gcc CC=gcc WERROR=1 build-tests
	@$(MAKE) B=build/clang CC=clang WERROR=1 build-tests
	@echo "strict: clean"

asan: deps-test ## all tests under address and undefined sanitizers
	@$(MAKE) build-all
	@$(MAKE) B=build/asan SAN=1 asan-test
# What a sanitizer says of an engine in the background would go unseen: all
# reports go into files, and there must be none.
REPORTS = $(abspath $(B))/reports
asan-test:
	@rm -rf $(REPORTS); mkdir -p $(REPORTS)
	@# Tests measure memory: what is freed may not wait in a large quarantine.
	@export ASAN_OPTIONS=log_path=$(REPORTS)/asan:quarantine_size_mb=16; \
		export UBSAN_OPTIONS=log_path=$(REPORTS)/ubsan:print_stacktrace=1; \
		$(MAKE) test-all; status=$$?; cat $(REPORTS)/* 2>/dev/null && \
		echo "asan: reports, above" && exit 1; exit $$status

check: ## lint, both compilers, tests, sanitizers
	@$(MAKE) lint
	@$(MAKE) strict
	@$(MAKE) test
	@$(MAKE) asan
	@echo "check: clean"

FUZZERS := $(patsubst tests/fuzz/%.c,build/fuzz/bin/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_SECONDS ?= 20
fuzz: deps-check ## each fuzzer for FUZZ_SECONDS
	@$(MAKE) B=build/fuzz CC=clang fuzz-run \
		CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined"
fuzz-run: $(FUZZERS)
	@for f in $(FUZZERS); do echo "$$f"; mkdir -p $$f.corpus; \
		$$f -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
		-artifact_prefix=$$f- $$f.corpus || exit 1; done
build/fuzz/bin/%: tests/fuzz/%.c $(B)/libbase.a $(B)/libcore.a
	@mkdir -p $(@D)
	$(COMPILE) -fsanitize=fuzzer,address,undefined -o $@ $< $(B)/libcore.a \
		$(B)/libbase.a $(LDFLAGS) -l:libuv_a.a -l:libjansson.a -lz \
		-lpthread -ldl

coverage: deps-test ## line coverage of the tests, under build/coverage
	@$(MAKE) B=build/coverage CFLAGS="-O0 -g --coverage" test-all
	@cd build/coverage && gcov -n $$(find obj -name '*.gcda') 2>/dev/null | \
		paste - - - - 2>/dev/null | grep host/ > coverage.txt || true
	@echo "see build/coverage/coverage.txt"

docs: build-all ## the reference text under build/docs
	@$(B)/e2blua tests/lib/docs.lua build/docs

bench: deps-test ## measures beside peers (BENCH=name for some); build/bench/table.md
	@$(MAKE) build-all $(B)/bench/probe
	@sh tests/bench/run.sh $(B)/e2blua

deps-check: ## packages that only check and fuzz need
	@sh host/deps.sh run test check

format: ## clang-format over our C
	clang-format -i $(C_ALL) $(H_ALL)

# ---- install ---------------------------------------------------------------
LIBDIR = $(DESTDIR)$(PREFIX)/lib/e2blua
install: build-all ## into PREFIX (default /usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(LIBDIR)
	install -m 755 $(B)/e2blua $(DESTDIR)$(PREFIX)/bin/e2blua
	install -m 644 $(MODULES) $(LIBDIR)

uninstall: ## what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/e2blua
	rm -rf $(LIBDIR)

clean: ## remove build/
	rm -rf build

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
