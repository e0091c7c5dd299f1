# With LEWIS_SANITIZED: the tests that may meet strangers' bytes once more, with address and
# undefined-behaviour sanitizers, and the fuzzer (docs/building.md).
#
# A whole second build would double the time of continuous integration. So only the rooms that read
# strangers' files are compiled a second time, into lewis_sanitized_rooms. A test's own objects, and the
# rooms that only compute, are those of the plain build. lewis_sanitized_rooms comes first when a program
# is linked, and the linker takes the first object that has a function (mold does so wherever its
# user stands). The programs have the same names in the folder sanitized.
set(LEWIS_SANITIZED_ROOMS base io hub yaml recipe text model calibrate merge eval report tune app cli)
set(LEWIS_SANITIZED_DIR ${CMAKE_BINARY_DIR}/sanitized)

# Left out are tests of numbers: they run through the same loops as a test that stays, on more data,
# or they read no file but this project's source. NAME: the tests of the program test_NAME.
set(LEWIS_NOT_SANITIZED_house *)
set(LEWIS_NOT_SANITIZED_plan *)
set(LEWIS_NOT_SANITIZED_plan_slow *)
set(LEWIS_NOT_SANITIZED_refine *)
set(LEWIS_NOT_SANITIZED_calibrate_slow *)
set(LEWIS_NOT_SANITIZED_eval_slow *)
set(LEWIS_NOT_SANITIZED_calibrate Calibrate.*:FamilyStatistics.*:Statistics.*:Magnitudes.*:OutputChange.*)
set(LEWIS_NOT_SANITIZED_compute Bf16Kernels.*:StoredLinear.*)
set(LEWIS_NOT_SANITIZED_merge
    BruteForce.*:GoldenMerge.*:Modules.*:Stages.*:Diagnostics.*:Relaxation.*:TrimFactors.*)
set(LEWIS_NOT_SANITIZED_model FamilyParity.*:Parity.*)

# lewis_sanitize(TARGET ROOM sources...): compiles sources of lewis_ROOM into the object library TARGET.
function(lewis_sanitize target room)
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${ARGN})
  get_target_property(libraries lewis_${room} LINK_LIBRARIES)
  target_link_libraries(${target} PRIVATE ${libraries})
  foreach(property IN ITEMS INCLUDE_DIRECTORIES COMPILE_DEFINITIONS LEWIS_KERNELS UNITY_BUILD UNITY_BUILD_MODE)
    get_target_property(value lewis_${room} ${property})
    if(NOT value STREQUAL "value-NOTFOUND")
      set_target_properties(${target} PROPERTIES ${property} "${value}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES LEWIS_SANITIZED ON)
  lewis_count_coverage(${target})
endfunction()

# lewis_sanitized_program(TARGET): links the objects of TARGET with lewis_sanitized_rooms.
function(lewis_sanitized_program target)
  add_executable(${target}_sanitized EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${target}>)
  set_target_properties(${target}_sanitized PROPERTIES LINKER_LANGUAGE CXX
    OUTPUT_NAME ${target} RUNTIME_OUTPUT_DIRECTORY ${LEWIS_SANITIZED_DIR}
    ENABLE_EXPORTS $<TARGET_PROPERTY:${target},ENABLE_EXPORTS>)
  target_link_libraries(${target}_sanitized PRIVATE lewis_sanitized_rooms $<TARGET_PROPERTY:${target},LINK_LIBRARIES>)
  target_link_options(${target}_sanitized PRIVATE -fsanitize=address,undefined)
  add_dependencies(sanitized ${target}_sanitized)
endfunction()

# lewis_sanitized_tests(NAME): the tests of test_NAME as sanitized.NAME, but those that are left out.
function(lewis_sanitized_tests test)
  if(LEWIS_NOT_SANITIZED_${test} STREQUAL "*")
    return()
  endif()
  lewis_sanitized_program(test_${test})
  # Where memory was allocated is not recorded, which saves a third of the time; run the program by
  # hand to see it.
  lewis_add_tests(sanitized.${test} test_${test}_sanitized sanitized
    "HF_HUB_OFFLINE=1;ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=16"
    "--gtest_filter=-${LEWIS_NOT_SANITIZED_${test}}")
endfunction()

# Called when all rooms are there.
function(lewis_add_sanitized)
  foreach(room IN LISTS LEWIS_SANITIZED_ROOMS)
    get_target_property(sources lewis_${room} SOURCES)
    lewis_sanitize(lewis_${room}_sanitized ${room} ${sources})
    list(APPEND objects $<TARGET_OBJECTS:lewis_${room}_sanitized>)
  endforeach()
  add_library(lewis_sanitized_rooms STATIC EXCLUDE_FROM_ALL ${objects})
  set_target_properties(lewis_sanitized_rooms PROPERTIES LINKER_LANGUAGE CXX)
  if(LEWIS_FUZZ)
    target_link_libraries(lewis_sanitized_rooms PUBLIC lewis_coverage)
  endif()
  # Our own kernels meet the sanitizers in their own tests; the tiles are Eigen's.
  file(GLOB kernels CONFIGURE_DEPENDS src/compute/cpu/*.cc)
  list(FILTER kernels EXCLUDE REGEX "tile_kernels")
  lewis_sanitize(lewis_compute_sanitized compute ${kernels})

  add_custom_target(sanitized ALL)
  lewis_sanitized_program(lewis)
  lewis_sanitized_program(lewis_shimmed)
  get_property(tests GLOBAL PROPERTY LEWIS_TESTED)
  foreach(test IN LISTS tests)
    lewis_sanitized_tests(${test})
  endforeach()
  target_sources(test_compute_sanitized PRIVATE $<TARGET_OBJECTS:lewis_compute_sanitized>)
endfunction()
