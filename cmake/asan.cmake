# cmake -C cmake/asan.cmake -S . -B build/asan: AddressSanitizer and UndefinedBehaviorSanitizer.
set(CMAKE_BUILD_TYPE None CACHE STRING "")
set(CMAKE_CXX_FLAGS
    "-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
    CACHE STRING "")
set(THROTTL_WERROR ON CACHE BOOL "")
set(THROTTL_SANITIZER asan CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/ccache.cmake)
