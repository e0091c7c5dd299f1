# lewis_fuzz: the targets of fuzz/ with libFuzzer, in the build with AddressSanitizer (docs/fuzzing.md).
#
# g++ has no libFuzzer of its own, but its -fsanitize-coverage=trace-pc feeds that of clang through
# fuzz/coverage.cc. The rooms are instrumented in this build (lewis_count_coverage), so that no
# other build is needed.
find_library(LEWIS_LIBFUZZER NAMES libclang_rt.fuzzer-${CMAKE_SYSTEM_PROCESSOR}.a
             PATHS /usr/lib/llvm-14/lib/clang/14.0.6/lib/linux /usr/lib/llvm-14/lib/clang/14/lib/linux)
if(LEWIS_SANITIZE MATCHES "address" AND LEWIS_LIBFUZZER)
  set(LEWIS_FUZZ ON)
elseif(LEWIS_SANITIZE MATCHES "address")
  message(STATUS "lewis: fuzzing is left out: there is no libFuzzer (Debian package libclang-rt-14-dev)")
endif()

# lewis_count_coverage(TARGET): the fuzzer sees which code of TARGET has run.
function(lewis_count_coverage target)
  if(LEWIS_FUZZ AND NOT target STREQUAL "lewis_compute")  # kernels read no file, and counting makes them slow
    target_compile_options(${target} PRIVATE -fsanitize-coverage=trace-pc)
    target_link_libraries(${target} PUBLIC lewis_coverage)
  endif()
endfunction()

if(LEWIS_FUZZ)
  add_library(lewis_coverage STATIC fuzz/coverage.cc)
  set_target_properties(lewis_coverage PROPERTIES POSITION_INDEPENDENT_CODE ON)
endif()

# Called when all rooms are there. Each target is a test of a few seconds: its seeds, then what
# libFuzzer makes of them.
function(lewis_add_fuzzing)
  if(NOT LEWIS_FUZZ)
    return()
  endif()
  lewis_program(lewis_fuzz fuzz/main.cc fuzz/targets.cc fuzz/model_targets.cc fuzz/coverage.cc)
  target_link_libraries(lewis_fuzz PRIVATE lewis_app ${LEWIS_LIBFUZZER} ${CMAKE_DL_LIBS})
  # libFuzzer has a function of the same name as fuzz/coverage.cc, which only complains.
  target_link_options(lewis_fuzz PRIVATE LINKER:-z,muldefs)
  file(GLOB folders CONFIGURE_DEPENDS fuzz/seeds/*)
  set(names "")
  foreach(folder IN LISTS folders)
    get_filename_component(name ${folder} NAME)
    list(APPEND names ${name})
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz/${name})
    add_test(NAME fuzz.${name}
             COMMAND lewis_fuzz --target=${name} -max_total_time=3 -timeout=10 -rss_limit_mb=3000 -print_final_stats=1
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
