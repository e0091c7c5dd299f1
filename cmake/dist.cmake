# lewis_portable: the program `lewis` as it is packaged, and its packages (docs/packaging.md). The
# target `packages` makes all of them in LEWIS_DIST_DIR; `make dist` builds it in the preset dist.
set(LEWIS_DIST_DIR "${CMAKE_SOURCE_DIR}/build/dist" CACHE PATH "Where the packages are written")

lewis_program(lewis_portable $<TARGET_OBJECTS:lewis>)
target_link_libraries(lewis_portable PRIVATE lewis_cli)
set_target_properties(lewis_portable PROPERTIES OUTPUT_NAME lewis LINKER_LANGUAGE CXX
                      RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/portable/bin)
lewis_make_portable(lewis_portable)

# What a package holds, in folders as below /usr: the program, its licence and those of what is
# linked into it, manual pages, completion of shells.
set(stage ${CMAKE_BINARY_DIR}/stage)
add_custom_target(lewis_stage
  COMMAND ${packaging}/stage.sh $<TARGET_FILE:lewis_portable> ${LEWIS_SHARE} ${stage} ${CARGO} ${LEWIS_ONEDNN_STATIC}
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} VERBATIM)
add_dependencies(lewis_stage lewis_portable lewis_pages)

install(DIRECTORY ${stage}/ DESTINATION . COMPONENT dist EXCLUDE_FROM_ALL USE_SOURCE_PERMISSIONS)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/cpack)
set(CPACK_PACKAGE_NAME lewis)
set(CPACK_PACKAGE_VENDOR lewis)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "merges fine-tuned language models, guided by data")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};lewis;dist;/")
set(CPACK_COMPONENTS_ALL dist)
set(CPACK_DEB_COMPONENT_INSTALL OFF)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "lewis maintainers <maintainers@users.noreply.r-seed-7b42c9dd.example>")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= ${LEWIS_OLDEST_GLIBC})")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "lewis merges models as a recipe says, finds densities of layers by running text through the models, and scores the results. It works on a CPU and needs no Python.")
include(CPack)

add_custom_target(packages
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${CMAKE_BINARY_DIR}/cpack
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake
  COMMAND ${Python3_EXECUTABLE} ${packaging}/packages.py --stage ${stage} --version ${PROJECT_VERSION}
          --machine ${CMAKE_SYSTEM_PROCESSOR} --out ${LEWIS_DIST_DIR} --add ${CMAKE_BINARY_DIR}/cpack
          --add ${CMAKE_BINARY_DIR}/wheels
  COMMAND ${packaging}/check_program.sh ${stage}/bin/lewis ${LEWIS_OLDEST_GLIBC}
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} VERBATIM)
add_dependencies(packages lewis_stage)

if(LEWIS_TESTS)
  lewis_program(runtime_test ${packaging}/runtime_test.cc)
  target_link_libraries(runtime_test PRIVATE lewis_static_fmt)
  lewis_make_portable(runtime_test)
  add_test(NAME check.portable_runtime COMMAND runtime_test argument)
  set_tests_properties(check.portable_runtime PROPERTIES LABELS check)
endif()

# Without a static oneDNN, everything is checked but that one library, and nothing can be packaged.
if(LEWIS_CHECKS)
  get_filename_component(onednn ${LEWIS_ONEDNN_STATIC} REALPATH)
  if(onednn MATCHES "\\.so")
    get_filename_component(allowed ${DNNL_LIBRARY} REALPATH)
    get_filename_component(allowed ${allowed} NAME)
    string(REGEX REPLACE "(\\.so\\.[0-9]+).*" "\\1" allowed ${allowed})
  endif()
  add_test(NAME check.portable COMMAND ${packaging}/check_packages.sh $<TARGET_FILE:lewis_portable> ${CMAKE_BINARY_DIR}
           ${CARGO} ${LEWIS_ONEDNN_STATIC} ${PROJECT_VERSION} ${LEWIS_OLDEST_GLIBC} ${allowed}
           WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(check.portable PROPERTIES LABELS check)
endif()
