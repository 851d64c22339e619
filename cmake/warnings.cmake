# throttl_warnings(target): the project's warnings on one of its own targets.
function(throttl_warnings target)
  target_compile_options(
    ${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
                      $<$<BOOL:${THROTTL_WERROR}>:-Werror>)
endfunction()
