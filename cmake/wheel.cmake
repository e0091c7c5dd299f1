# What the wheel lewis-merge holds beside the files of python/lewis: the program as the command lewis, the
# module, manual pages, completion, and the licences of what is linked into it. pyproject.toml names the target
# and the component. With LEWIS_PORTABLE, the wheel is for other machines (packaging/wheels.sh).
add_custom_target(lewis_wheel DEPENDS $<TARGET_NAME_IF_EXISTS:lewis_python>)
if(LEWIS_PORTABLE)
  add_dependencies(lewis_wheel lewis_stage)
  install(PROGRAMS $<TARGET_FILE:lewis_portable> DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)
  install(DIRECTORY ${stage}/share/ DESTINATION ${SKBUILD_DATA_DIR}/share COMPONENT python PATTERN doc EXCLUDE)
  install(FILES ${stage}/share/doc/lewis/NOTICE DESTINATION ${SKBUILD_METADATA_DIR}/licenses COMPONENT python)
else()
  add_dependencies(lewis_wheel lewis lewis_pages)
  install(PROGRAMS $<TARGET_FILE:lewis> DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)
  install(DIRECTORY ${LEWIS_SHARE}/ DESTINATION ${SKBUILD_DATA_DIR}/share COMPONENT python PATTERN stamp EXCLUDE)
endif()
if(TARGET lewis_python)
  install(TARGETS lewis_python LIBRARY DESTINATION lewis COMPONENT python)
endif()
