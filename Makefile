# Everything a person needs: make, make demo, make test, make bench, make install.
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

# Configures and builds a preset: $(call compile,PRESET,OPTIONS OF CMAKE,OPTIONS OF THE BUILD). Cargo works beside ninja, which
# would start it last; ninja waits for it where it needs the library.
define compile
	@cmake --preset $(1) --log-level=WARNING $(2)
	@cargo build --quiet --release --locked -j $$((($(JOBS) + 1) / 2)) --manifest-path rust/Cargo.toml \
	  --target-dir build/cargo & cmake --build --preset $(1) -j $(JOBS) $(3); status=$$?; wait; exit $$status
endef

.PHONY: all build demo study test test-asan test-dev aarch64-check bench fuzz install lint format clean \
	packages test-packages python test-python dist test-dist
all: build

packages:
	@tools/install_packages.sh

test-packages:
	@tools/install_packages.sh tests

build: packages
	$(call compile,release)

demo: build
	@demo/run.sh build/release/lewis

# The laboratory behind docs/study.md; MODELS="BASE EXPERT,TRAIN,TEST,FORMAT ..." studies others.
study: packages
	$(call compile,release,,--target lewis_study)
	@build/release/lewis_study $(MODELS)

# $(call run_tests,OPTIONS OF CTEST)
run_tests = @ctest --test-dir build/ci -j $(JOBS) --output-on-failure --no-tests=error $(1)

# A failing test with sanitizers is tried once more: a child that g++ 12's allocator keeps waiting is
# started anew at its beginning only (text/child_process.cc).
run_sanitized_tests = $(call run_tests,-L '^(sanitized|fuzz)$$' --repeat until-pass:2)

# Everything that continuous integration checks: all tests, those that may meet strangers' bytes once
# more with sanitizers, benchmarks, the study and the checks of cmake (`ctest -L check`).
test: test-packages
	@tools/python_venv.sh build/venv
	$(call compile,ci,-DLEWIS_FUZZ_RUST=OFF)
	$(call run_tests,-LE '^(sanitized|fuzz)$$')
	$(call run_sanitized_tests)

# The tests with sanitizers alone.
test-asan: test-packages
	$(call compile,ci,-DLEWIS_FUZZ_RUST=OFF,--target sanitized lewis_fuzz)
	$(call run_sanitized_tests)

# Fuzzes all targets, or TARGETS="yaml index", for so many minutes together (docs/fuzzing.md). With
# RUST=ON the fuzzer sees the Rust code, too, which is compiled for it.
MINUTES ?= 10
RUST ?= OFF
fuzz: test-packages
	$(call compile,ci,-DLEWIS_FUZZ_RUST=$(RUST),--target lewis_fuzz)
	@JOBS=$(JOBS) fuzz/run.sh build/ci/sanitized/lewis_fuzz $(MINUTES) $(TARGETS)

# For developers: all tests without joined sources, so that one changed file compiles quickly.
test-dev: test-packages
	$(call compile,dev)
	@ctest --test-dir build/dev -j $(JOBS) --output-on-failure --no-tests=error

# Whether the merge compiles for aarch64.
aarch64-check: test-packages
	@JOBS=$(JOBS) tools/check_aarch64.sh

bench: packages
	$(call compile,release,-DLEWIS_BENCH=ON)
	@bench/run.sh build/release

# The wheel with the Python module and the program, for PYTHON, in build/dist (docs/python.md).
python: packages
	@tools/python_venv.sh build/venv
	@build/venv/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/dist .

# The tests of the Python module against the library and the program of build/ci.
test-python: test-packages
	$(call compile,ci,,--target lewis lewis_library)
	@tools/python_venv.sh build/venv
	@tools/check_python.sh build/ci build/venv

# The program, and the library with its headers (docs/library.md).
install: packages
	$(call compile,release,-DLEWIS_LIBRARY=ON)
	@cmake --install build/release --prefix $(PREFIX)

# Packages for other machines: tarball, wheels for PYTHONS, .deb and Containerfile in build/dist (docs/packaging.md).
PYTHONS ?= python3
dist: packages
	@tools/install_packages.sh dist
	@JOBS=$(JOBS) packaging/build_onednn.sh
	@cmake --preset dist --log-level=WARNING
	@cmake --build build/portable -j $(JOBS) --target lewis_stage
	@packaging/wheels.sh build/portable $$(uname -m) $(PYTHONS)
	@cmake --build build/portable --target packages

# Installs and uses the packages on clean systems, which it makes in build/systems. Needs root and Debian's mirror.
test-dist:
	@tools/install_packages.sh dist debootstrap
	@packaging/test_dist.sh build/dist $(SYSTEMS)

lint: test-packages
	@tools/lint.sh

format:
	@clang-format-14 -i $$(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' 'tests/*.h' 'bench/*.cc' 'bench/*.h' \
	  'tools/*.cc' 'tools/*.h' 'include/*.h' 'examples/*.cc' 'fuzz/*.cc' 'fuzz/*.h' 'python/*.cc' 'python/*.h')

clean:
	@rm -rf build demo/out
