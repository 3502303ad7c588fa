# LibTorch from the wheel in .venv, or from wherever CMAKE_PREFIX_PATH points.
# tessera was tested with the release below. Releases of the same minor series only warn; others refuse, because
# collectives/ and fsdp/ use c10d and autograd headers that PyTorch does not promise to keep.
set(TESSERA_TORCH_TESTED 2.13.0)
file(GLOB tessera_wheel ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake)
list(APPEND CMAKE_PREFIX_PATH ${tessera_wheel})
find_package(Torch REQUIRED)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" tessera_torch_series "${Torch_VERSION}")
if(NOT tessera_torch_series STREQUAL "2.13")
  message(FATAL_ERROR "tessera needs torch 2.13 (found ${Torch_VERSION}); `make setup` installs ${TESSERA_TORCH_TESTED}")
elseif(NOT Torch_VERSION MATCHES "^2\\.13\\.0")
  message(WARNING "tessera was tested with torch ${TESSERA_TORCH_TESTED}, not with ${Torch_VERSION}")
endif()
add_library(tessera_libtorch_headers INTERFACE)
target_link_libraries(tessera_libtorch_headers INTERFACE torch)
