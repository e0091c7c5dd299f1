# The library that other programs link: liblewis.so, the headers of include/lewis, a CMake package
# and a pkg-config file. It is made of the rooms' static libraries, which are position-independent
# for it; hidden visibility and a version script leave visible only what LEWIS_API marks.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# These rooms define functions of include/lewis, so all of their objects are taken.
set(public_objects)
foreach(room IN ITEMS base io compute app)
  list(APPEND public_objects $<TARGET_OBJECTS:lewis_${room}>)
endforeach()
add_library(lewis_library SHARED ${public_objects})
add_library(lewis::lewis ALIAS lewis_library)
set_target_properties(lewis_library PROPERTIES
  OUTPUT_NAME lewis EXPORT_NAME lewis LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/liblewis.map)
target_link_libraries(lewis_library PRIVATE lewis_app)
target_link_options(lewis_library PRIVATE
  -Wl,--no-undefined -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/liblewis.map)
target_compile_features(lewis_library INTERFACE cxx_std_20)
target_include_directories(lewis_library INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lewis)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/lewisConfig.cmake.in lewisConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(lewisConfigVersion.cmake COMPATIBILITY SameMinorVersion)
# The prefix may be another one at `cmake --install --prefix`, so lewis.pc is made then.
install(CODE "
  set(PROJECT_VERSION ${PROJECT_VERSION})
  set(CMAKE_INSTALL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
  set(CMAKE_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
  configure_file(\"${CMAKE_CURRENT_LIST_DIR}/lewis.pc.in\" \"${CMAKE_BINARY_DIR}/lewis.pc\" @ONLY)")
install(FILES ${CMAKE_BINARY_DIR}/lewis.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(TARGETS lewis_library EXPORT lewisTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/lewis DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
export(EXPORT lewisTargets NAMESPACE lewis::)  # find_package(lewis) finds the build folder, too
install(EXPORT lewisTargets NAMESPACE lewis:: DESTINATION ${package_folder})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lewisConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/lewisConfigVersion.cmake DESTINATION ${package_folder})
