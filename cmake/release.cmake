# cmake -C cmake/release.cmake -S . -B build/release
set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1" CACHE STRING "")
set(THROTTL_WERROR ON CACHE BOOL "")
include(${CMAKE_CURRENT_LIST_DIR}/ccache.cmake)
