# Installs throttl::throttl and throttl::c for find_package(throttl CONFIG) and for pkg-config
# (throttl-cpp and throttl).
option(THROTTL_INSTALL "Make the install target" ${PROJECT_IS_TOP_LEVEL})
if(NOT THROTTL_INSTALL)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(TARGETS throttl_cpp throttl_c EXPORT throttlTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(throttl_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/throttl)
install(EXPORT throttlTargets NAMESPACE throttl:: DESTINATION ${throttl_cmake_dir})
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/throttlConfig.cmake.in ${PROJECT_BINARY_DIR}/throttlConfig.cmake
  INSTALL_DESTINATION ${throttl_cmake_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/throttlConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/throttlConfig.cmake
              ${PROJECT_BINARY_DIR}/throttlConfigVersion.cmake
        DESTINATION ${throttl_cmake_dir})

# The prefix is found from the place of the .pc file, so that an installed tree may be moved.
set(throttl_pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH throttl_pc_to_prefix /${throttl_pkgconfig_dir} /)
string(REGEX REPLACE "/$" "" throttl_pc_to_prefix "${throttl_pc_to_prefix}")
foreach(throttl_pc throttl-cpp throttl)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${throttl_pc}.pc.in
                 ${PROJECT_BINARY_DIR}/${throttl_pc}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${throttl_pc}.pc DESTINATION ${throttl_pkgconfig_dir})
endforeach()
