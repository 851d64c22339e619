# cmake -C cmake/asan.cmake -S . -B build/asan: AddressSanitizer and UndefinedBehaviorSanitizer.
# -Og compiles the tests in 60 % of the time of -O1. It brings false warnings, so they are errors in
# the release build only.
set(CMAKE_BUILD_TYPE None CACHE STRING "")
set(CMAKE_CXX_FLAGS
    "-Og -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
    CACHE STRING "")
set(THROTTL_SANITIZER asan CACHE STRING "")
include(${CMAKE_CURRENT_LIST_DIR}/ccache.cmake)
