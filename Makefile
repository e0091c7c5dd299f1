# Everything a person needs: make, make demo, make test, make bench, make install.
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

.PHONY: all build demo study test test-dev test-asan aarch64-check bench install lint format clean packages
all: build

packages:
	@tools/install_packages.sh

build: packages
	@cmake --preset release -DLEWIS_TESTS=OFF --log-level=WARNING
	@cmake --build --preset release -j $(JOBS)

demo: build
	@demo/run.sh build/release/lewis

# The laboratory behind docs/study.md; MODELS="BASE EXPERT,TRAIN,TEST,FORMAT ..." studies others.
study: packages
	@cmake --preset release -DLEWIS_TESTS=OFF --log-level=WARNING
	@cmake --build --preset release -j $(JOBS) --target lewis_study
	@build/release/lewis_study $(MODELS)

# The same tests twice: as built for developers, then under address and undefined-behaviour
# sanitizers (but for right answers, which are slow to count and no matter of memory). Warnings are errors in both.
test: test-asan test-dev

test-dev: packages
	@cmake --preset dev --log-level=WARNING
	@cmake --build --preset dev -j $(JOBS)
	@ctest --test-dir build/dev -j $(JOBS) --output-on-failure --no-tests=error

test-asan: packages
	@cmake --preset asan --log-level=WARNING
	@cmake --build --preset asan -j $(JOBS)
	@ctest --test-dir build/asan -j $(JOBS) --output-on-failure --no-tests=error -E ZooAccuracy

# Whether the merge compiles for aarch64.
aarch64-check: packages
	@tools/check_aarch64.sh

bench: packages
	@cmake --preset release -DLEWIS_TESTS=OFF -DLEWIS_BENCH=ON --log-level=WARNING
	@cmake --build --preset release -j $(JOBS)
	@bench/run.sh build/release

install: build
	@cmake --install build/release --prefix $(PREFIX)

lint:
	@clang-format --dry-run -Werror $$(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' 'tests/*.h' 'bench/*.cc')

format:
	@clang-format -i $$(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' 'tests/*.h' 'bench/*.cc')

clean:
	@rm -rf build demo/out

