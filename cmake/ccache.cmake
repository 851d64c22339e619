# Uses ccache where it is installed.
find_program(THROTTL_CCACHE ccache)
if(THROTTL_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${THROTTL_CCACHE} CACHE STRING "")
endif()
