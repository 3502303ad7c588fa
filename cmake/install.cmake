# `cmake --install`: component core (the file wing, its headers, libtessera.so, the command line) and component torch (the rooms that need
# LibTorch). find_package(tessera COMPONENTS core) looks for no LibTorch; pkg-config knows tessera (the C library) and tessera-core.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(tessera_rooms GLOBAL PROPERTY TESSERA_ROOMS)
get_property(tessera_torch_rooms GLOBAL PROPERTY TESSERA_TORCH_ROOMS)
# What only the LibTorch wing uses goes with it.
set(tessera_torch_side ${tessera_torch_rooms} comm_socket)
set(tessera_core_rooms)
foreach(room IN LISTS tessera_rooms)
  if(NOT room IN_LIST tessera_torch_side)
    list(APPEND tessera_core_rooms ${room})
  endif()
endforeach()
set(tessera_headers_of_tests "(_test|random_layouts|written_checkpoint|test_model|optim_golden|lr_golden)\\.h$")
set(tessera_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)

function(tessera_install_wing component)
  set(targets)
  foreach(room IN LISTS ARGN)
    if(TARGET tessera_${room})
      set_target_properties(tessera_${room} PROPERTIES EXPORT_NAME ${room})
      list(APPEND targets tessera_${room})
      string(REPLACE "_" "/" folder ${room})
      install(DIRECTORY ${PROJECT_SOURCE_DIR}/tessera/${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tessera/${folder}
              COMPONENT ${component} FILES_MATCHING PATTERN "*.h" REGEX "${tessera_headers_of_tests}" EXCLUDE)
    endif()
  endforeach()
  install(TARGETS ${targets} EXPORT tessera_${component} COMPONENT ${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT tessera_${component} NAMESPACE tessera:: DESTINATION ${tessera_package_dir} FILE tessera-${component}.cmake
          COMPONENT ${component})
endfunction()

tessera_install_wing(core ${tessera_core_rooms})
if(TESSERA_TORCH)
  # Its headers are in the wheel, wherever that is on the machine that uses this.
  install(TARGETS tessera_libtorch_headers EXPORT tessera_torch COMPONENT torch)
  set_target_properties(tessera_libtorch_headers PROPERTIES EXPORT_NAME libtorch_headers)
  tessera_install_wing(torch ${tessera_torch_side})
endif()

set_target_properties(tessera_c PROPERTIES EXPORT_NAME c)
install(TARGETS tessera_c EXPORT tessera_c COMPONENT core LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT tessera_c NAMESPACE tessera:: DESTINATION ${tessera_package_dir} FILE tessera-c.cmake COMPONENT core)
install(FILES ${PROJECT_SOURCE_DIR}/tessera/c/tessera.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tessera/c COMPONENT core)
install(TARGETS tessera COMPONENT core RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tesseraConfig.cmake.in ${PROJECT_BINARY_DIR}/tesseraConfig.cmake
                              INSTALL_DESTINATION ${tessera_package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tesseraConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tesseraConfig.cmake ${PROJECT_BINARY_DIR}/tesseraConfigVersion.cmake DESTINATION ${tessera_package_dir}
        COMPONENT core)

# Static libraries are linked users first.
set(tessera_static_libs)
foreach(room IN LISTS tessera_core_rooms)
  get_target_property(kind tessera_${room} TYPE)
  if(kind STREQUAL "STATIC_LIBRARY")
    string(PREPEND tessera_static_libs "-ltessera_${room} ")
  endif()
endforeach()
configure_file(${CMAKE_CURRENT_LIST_DIR}/tessera-core.pc.in ${PROJECT_BINARY_DIR}/tessera-core.pc @ONLY)
configure_file(${CMAKE_CURRENT_LIST_DIR}/tessera.pc.in ${PROJECT_BINARY_DIR}/tessera.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tessera-core.pc ${PROJECT_BINARY_DIR}/tessera.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT core)
