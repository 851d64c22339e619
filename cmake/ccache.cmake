# Uses ccache where it is installed, and works: it fails for a user without a home. The headers of
# this tree are precompiled, which ccache wants to be told. All copies of the tree share what was
# compiled: paths below it count as relative.
set(THROTTL_PRECOMPILE ON CACHE BOOL "")
find_program(THROTTL_CCACHE ccache)
if(THROTTL_CCACHE)
  set(sloppiness pch_defines,time_macros,include_file_mtime,include_file_ctime)
  execute_process(COMMAND ${THROTTL_CCACHE} c++ -x c++ -c /dev/null -o /dev/null
                  RESULT_VARIABLE unusable OUTPUT_QUIET ERROR_QUIET)
  if(NOT unusable)
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=${sloppiness} CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
        CCACHE_NOHASHDIR=true ${THROTTL_CCACHE} CACHE STRING "")
  endif()
endif()
