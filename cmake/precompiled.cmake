# throttl_precompile(target header...): compiles the headers that most files of a target read once.
# Only where THROTTL_PRECOMPILE asks for it, as cmake/release.cmake, asan.cmake and tsan.cmake do.
# No file may lean on it: tests/clang_check.py compiles each one without.
option(THROTTL_PRECOMPILE "Precompile the headers that most files read" OFF)
function(throttl_precompile target)
  if(THROTTL_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

# throttl_precompile_as(target other): takes what `other`, of the same compile options, precompiled.
function(throttl_precompile_as target other)
  if(THROTTL_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()
