# cmake -C cmake/tsan.cmake -S . -B build/tsan: ThreadSanitizer.
set(CMAKE_BUILD_TYPE None CACHE STRING "")
set(CMAKE_CXX_FLAGS "-O1 -g1 -fno-omit-frame-pointer -fsanitize=thread" CACHE STRING "")
set(THROTTL_WERROR ON CACHE BOOL "")
set(THROTTL_SANITIZER tsan CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/ccache.cmake)
