# What `make install` puts where, so that pkg-config and find_package find it. All paths are relative to the prefix.
include(CMakePackageConfigHelpers)

install(TARGETS cuelight EXPORT cuelight
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS cuelight_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The .pc file finds its prefix by its own place, so that `cmake --install --prefix` and DESTDIR give one that works.
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_LIBDIR absolute)
if(absolute)
    set(CUE_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
    set(CUE_PC_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    set(CUE_PC_PREFIX "\${pcfiledir}/${up}")
    set(CUE_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
configure_file(cuelight.pc.in cuelight.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/cuelight.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/cuelight)
install(EXPORT cuelight NAMESPACE cuelight:: FILE cuelight-targets.cmake DESTINATION ${package})
configure_package_config_file(cmake/cuelight-config.cmake.in cuelight-config.cmake INSTALL_DESTINATION ${package}
    PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(cuelight-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/cuelight-config.cmake" "${PROJECT_BINARY_DIR}/cuelight-config-version.cmake" DESTINATION ${package})
