# lewis_fuzz: the targets of fuzz/ with libFuzzer and sanitizers (cmake/sanitized.cmake, docs/fuzzing.md).
#
# g++ has no libFuzzer of its own, but its -fsanitize-coverage=trace-pc feeds that of clang through
# fuzz/coverage.cc. The rooms of lewis_sanitized_rooms are instrumented so (lewis_count_coverage).
find_library(LEWIS_LIBFUZZER NAMES libclang_rt.fuzzer-${CMAKE_SYSTEM_PROCESSOR}.a
             PATHS /usr/lib/llvm-14/lib/clang/14.0.6/lib/linux /usr/lib/llvm-14/lib/clang/14/lib/linux)
if(LEWIS_SANITIZED AND LEWIS_LIBFUZZER)
  set(LEWIS_FUZZ ON)
elseif(LEWIS_SANITIZED)
  message(STATUS "lewis: fuzzing is left out: there is no libFuzzer (Debian package libclang-rt-14-dev)")
endif()

# For `make fuzz RUST=ON`: rustc's own pass of LLVM counts the edges of the Rust code for libFuzzer. The
# library and its crates are built for the fuzzer alone, which takes minutes; with --target, so that
# programs that run during the build are not counted.
option(LEWIS_FUZZ_RUST "The fuzzer sees which Rust code has run" OFF)
set(LEWIS_FUZZ_RUSTFLAGS "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares")
function(lewis_count_rust_coverage target)
  set(triple ${CMAKE_HOST_SYSTEM_PROCESSOR}-unknown-linux-gnu)
  set(folder ${CMAKE_SOURCE_DIR}/build/cargo-fuzz)
  set(library ${folder}/${triple}/release/liblewis_rust.a)
  add_custom_command(
    OUTPUT ${library}
    COMMAND ${CMAKE_COMMAND} -E env "RUSTFLAGS=${LEWIS_FUZZ_RUSTFLAGS}" ${CARGO} build --release --locked --quiet
            --target ${triple} --manifest-path ${CMAKE_SOURCE_DIR}/rust/Cargo.toml --target-dir ${folder}
    COMMAND ${CMAKE_COMMAND} -E touch ${library}
    DEPENDS ${LEWIS_RUST_SOURCES} rust/Cargo.toml rust/Cargo.lock
    COMMENT "Building the Rust library for the fuzzer"
    USES_TERMINAL VERBATIM)
  add_custom_target(lewis_fuzz_rust DEPENDS ${library})
  add_dependencies(${target} lewis_fuzz_rust)
  # It comes before the library that the rooms name. mold takes the first one that has a function,
  # GNU ld the one that comes behind its user.
  target_link_libraries(${target} PRIVATE ${library})
endfunction()

# lewis_count_coverage(TARGET): the fuzzer sees which code of TARGET has run.
function(lewis_count_coverage target)
  if(LEWIS_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize-coverage=trace-pc)
  endif()
endfunction()

if(LEWIS_FUZZ)
  add_library(lewis_coverage STATIC fuzz/coverage.cc)
  set_target_properties(lewis_coverage PROPERTIES POSITION_INDEPENDENT_CODE ON)
endif()

# Called when all rooms are there. Each target is a test of a few seconds: its seeds, then what
# libFuzzer makes of them, from one starting point, so that a change is judged by the same inputs.
# `make fuzz` looks for new ones.
function(lewis_add_fuzzing)
  if(NOT LEWIS_FUZZ)
    return()
  endif()
  lewis_program(lewis_fuzz fuzz/main.cc fuzz/targets.cc fuzz/model_targets.cc fuzz/journal_targets.cc fuzz/coverage.cc)
  set_target_properties(lewis_fuzz PROPERTIES LEWIS_SANITIZED ON RUNTIME_OUTPUT_DIRECTORY ${LEWIS_SANITIZED_DIR})
  target_link_options(lewis_fuzz PRIVATE -fsanitize=address,undefined)
  if(LEWIS_FUZZ_RUST)
    lewis_count_rust_coverage(lewis_fuzz)
  endif()
  target_link_libraries(lewis_fuzz PRIVATE lewis_sanitized_rooms lewis_app ${LEWIS_LIBFUZZER} ${CMAKE_DL_LIBS})
  # libFuzzer has a function of the same name as fuzz/coverage.cc, which only complains.
  target_link_options(lewis_fuzz PRIVATE LINKER:-z,muldefs)
  file(GLOB folders CONFIGURE_DEPENDS fuzz/seeds/*)
  set(names "")
  foreach(folder IN LISTS folders)
    get_filename_component(name ${folder} NAME)
    list(APPEND names ${name})
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${name})
    add_test(NAME fuzz.${name}
             COMMAND lewis_fuzz --target=${name} -seed=1 -max_total_time=3 -timeout=10 -rss_limit_mb=3000 -print_final_stats=1
                     -artifact_prefix=${CMAKE_BINARY_DIR}/fuzz/${name}- ${CMAKE_BINARY_DIR}/fuzz/${name} ${folder})
    # libfyaml leaks a kilobyte on some malformed inputs.
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
  endforeach()
  list(SORT names)
  list(JOIN names "\n" names)
  add_test(NAME fuzz.every_target_has_seeds
           COMMAND sh -c "test \"$($<TARGET_FILE:lewis_fuzz> --list | sort)\" = \"${names}\"")
  set_tests_properties(fuzz.every_target_has_seeds PROPERTIES LABELS fuzz)
endfunction()
