# lewis_options: the language, warnings, sanitizers and code generation that all targets of this
# project share. It is linked PRIVATE, so nothing of it reaches a program that links our libraries.
add_library(lewis_options INTERFACE)
target_compile_features(lewis_options INTERFACE cxx_std_20)

# Warnings. -Wmissing-field-initializers is off because designated initializers name what they set.
# g++ 12 reports overlapping copies in its own std::string at -O3 (GCC bug 105651).
target_compile_options(lewis_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers
  $<$<CONFIG:Release>:-Wno-restrict>
  $<$<BOOL:${LEWIS_WERROR}>:-Werror>)

# Results must not depend on the processor, so a multiplication and an addition are not contracted
# into one rounding. A target with the property LEWIS_KERNELS (compute/) promises equal bits on one
# machine only: it contracts, and is optimized under sanitizers too, where its tests would be slow.
set(kernels $<BOOL:$<TARGET_PROPERTY:LEWIS_KERNELS>>)
target_compile_options(lewis_options INTERFACE -ffp-contract=$<IF:${kernels},fast,off>)

# Functions marked LEWIS_VECTORIZED are compiled for several instruction sets, and the loader picks
# the best one that the machine has. Sanitizers do not work with such functions.
set(sanitized $<BOOL:$<TARGET_PROPERTY:LEWIS_SANITIZED>>)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" AND NOT LEWIS_SANITIZE)
  target_compile_definitions(lewis_options INTERFACE $<${sanitized}:LEWIS_VECTORIZED=>
    "$<$<NOT:${sanitized}>:LEWIS_VECTORIZED=__attribute__((target_clones(\"arch=x86-64-v4\",\"arch=x86-64-v3\",\"default\")))>")
else()
  target_compile_definitions(lewis_options INTERFACE LEWIS_VECTORIZED=)
endif()

# Targets with the property LEWIS_SANITIZED (cmake/sanitized.cmake). -Og and fewer checks save a third of
# the time to compile. AddressSanitizer sees what null, object-size and pointer-overflow would see,
# and vptr concerns casts between classes, which this program does not use. g++ 12 reports
# uninitialized values in its own <regex>.
set(checks -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-maybe-uninitialized)
target_compile_options(lewis_options INTERFACE
  "$<${sanitized}:$<IF:${kernels},-O1,-Og>;-g1;-fsanitize=address,undefined;-fno-sanitize=null,vptr,object-size,pointer-overflow;${checks}>")
if(LEWIS_SANITIZE)
  target_compile_options(lewis_options INTERFACE $<IF:${kernels},-O1,-Og> -fsanitize=${LEWIS_SANITIZE} ${checks})
  target_link_options(lewis_options INTERFACE -fsanitize=${LEWIS_SANITIZE})
endif()

if(LEWIS_LINKER)
  target_link_options(lewis_options INTERFACE -fuse-ld=${LEWIS_LINKER})
endif()
