# Uses ccache where it is installed, and works: it fails for a user without a home.
find_program(THROTTL_CCACHE ccache)
if(THROTTL_CCACHE)
  execute_process(COMMAND ${THROTTL_CCACHE} c++ -x c++ -c /dev/null -o /dev/null
                  RESULT_VARIABLE unusable OUTPUT_QUIET ERROR_QUIET)
  if(NOT unusable)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${THROTTL_CCACHE} CACHE STRING "")
  endif()
endif()
