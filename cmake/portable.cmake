# Programs and modules that run on other machines than the one that builds them (LEWIS_PORTABLE).
# They need the kernel and glibc 2.28 or later; every other library is inside. docs/packaging.md
# says why glibc is not.
#
# The same objects serve both kinds of programs. Which libraries they are linked with is decided by
# the property LEWIS_PORTABLE of the program: lewis_choice(NAME STATIC SHARED) makes a target that
# stands for one of the two.
function(lewis_choice name static shared)
  add_library(${name} INTERFACE)
  if(LEWIS_PORTABLE)
    target_link_libraries(${name} INTERFACE $<IF:$<BOOL:$<TARGET_PROPERTY:LEWIS_PORTABLE>>,${static},${shared}>)
  else()
    target_link_libraries(${name} INTERFACE ${shared})
  endif()
endfunction()

if(LEWIS_PORTABLE)
  set(LEWIS_OLDEST_GLIBC 2.28)
  set(LEWIS_ONEDNN_STATIC "${CMAKE_SOURCE_DIR}/build/onednn/libdnnl.a" CACHE FILEPATH
      "The static oneDNN of portable programs, which packaging/build_onednn.sh makes")
  if(NOT EXISTS ${LEWIS_ONEDNN_STATIC})
    message(STATUS "No static oneDNN (packaging/build_onednn.sh): portable programs need the shared one")
    set(LEWIS_ONEDNN_STATIC ${DNNL_LIBRARY})
  endif()
  enable_language(C)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(packaging ${CMAKE_CURRENT_LIST_DIR}/../packaging)
  set(portable ${CMAKE_BINARY_DIR}/portable)

  # What the compiler's driver finds first in this folder (-B): glibc 2.28 as the linker sees it.
  add_custom_command(
    OUTPUT ${portable}/libc.so
    COMMAND ${Python3_EXECUTABLE} ${packaging}/old_glibc.py --limit ${LEWIS_OLDEST_GLIBC} --out ${portable}
            --cc ${CMAKE_C_COMPILER}
    DEPENDS ${packaging}/old_glibc.py
    COMMENT "Writing stand-ins for glibc ${LEWIS_OLDEST_GLIBC}" VERBATIM)
  add_custom_command(
    OUTPUT ${portable}/Scrt1.o
    COMMAND ${CMAKE_C_COMPILER} -O2 -fPIE -fno-stack-protector -c ${packaging}/start.c -o ${portable}/Scrt1.o
    DEPENDS ${packaging}/start.c VERBATIM)
  # libfyaml's archive holds an xxhash of its own. Only its own names stay visible.
  pkg_get_variable(fyaml_folder libfyaml libdir)
  add_custom_command(
    OUTPUT ${portable}/libfyaml.a
    COMMAND ${CMAKE_LINKER} -r --whole-archive ${fyaml_folder}/libfyaml.a -o ${portable}/fyaml.o
    COMMAND ${CMAKE_OBJCOPY} -w --keep-global-symbol=fy_* --redefine-sym stdin=lewis_stdin
            --redefine-sym stdout=lewis_stdout --redefine-sym stderr=lewis_stderr ${portable}/fyaml.o
    COMMAND ${CMAKE_COMMAND} -E rm -f ${portable}/libfyaml.a
    COMMAND ${CMAKE_AR} qc ${portable}/libfyaml.a ${portable}/fyaml.o
    DEPENDS ${fyaml_folder}/libfyaml.a VERBATIM)
  add_custom_target(lewis_portable_files DEPENDS ${portable}/libc.so ${portable}/Scrt1.o ${portable}/libfyaml.a)

  find_library(CRYPTO_STATIC libcrypto.a REQUIRED)
  find_library(XXHASH_STATIC libxxhash.a REQUIRED)
  set(static_sources ${packaging}/static/fmt.cc ${packaging}/static/one_thread.c
      ${packaging}/static/standard_files.c)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    list(APPEND static_sources ${packaging}/static/xxhash_dispatch.c)
  endif()
  add_library(lewis_static STATIC EXCLUDE_FROM_ALL ${static_sources})
  target_link_libraries(lewis_static PRIVATE fmt::fmt)
  set_target_properties(lewis_static PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden
                        CXX_VISIBILITY_PRESET hidden CXX_STANDARD 20)
  add_library(lewis_glibc_shims OBJECT EXCLUDE_FROM_ALL ${packaging}/glibc_shims.c)
  set_target_properties(lewis_glibc_shims PROPERTIES POSITION_INDEPENDENT_CODE ON C_STANDARD 11)

  # The static counterparts of what find_package found.
  add_library(lewis_static_fmt INTERFACE)
  target_link_libraries(lewis_static_fmt INTERFACE lewis_static)
  target_include_directories(lewis_static_fmt INTERFACE $<TARGET_PROPERTY:fmt::fmt,INTERFACE_INCLUDE_DIRECTORIES>)
  add_library(lewis_static_crypto INTERFACE)
  target_link_libraries(lewis_static_crypto INTERFACE ${CRYPTO_STATIC} ${CMAKE_DL_LIBS})
  add_library(lewis_static_xxhash INTERFACE)
  target_link_libraries(lewis_static_xxhash INTERFACE lewis_static ${XXHASH_STATIC})
  add_library(lewis_static_fyaml INTERFACE)
  target_link_libraries(lewis_static_fyaml INTERFACE ${portable}/libfyaml.a lewis_static)
  add_library(lewis_static_onednn INTERFACE)
  target_link_libraries(lewis_static_onednn INTERFACE ${LEWIS_ONEDNN_STATIC})
  add_library(lewis_static_openmp INTERFACE)
  target_link_libraries(lewis_static_openmp INTERFACE lewis_static)
endif()

# lewis_make_portable(TARGET): links a program or a module of Python so that it runs with the oldest
# supported glibc and with no other library. Exceptions, threads and the C++ library are inside.
function(lewis_make_portable target)
  set_target_properties(${target} PROPERTIES LEWIS_PORTABLE ON LINK_DEPENDS
    "${portable}/libc.so;${portable}/Scrt1.o;${portable}/libfyaml.a;${LEWIS_ONEDNN_STATIC}")
  add_dependencies(${target} lewis_portable_files)
  target_link_libraries(${target} PRIVATE lewis_glibc_shims)
  target_link_options(${target} PRIVATE -B${portable}/ -static-libstdc++ -static-libgcc
    LINKER:--gc-sections,--as-needed,-s,-z,relro,-z,now LINKER:--exclude-libs,ALL)
endfunction()
