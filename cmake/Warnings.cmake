# The warnings that our own code is held to; third-party headers are SYSTEM.
add_library(dreamstate_warnings INTERFACE)
target_compile_options(dreamstate_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-unused-parameter -Wno-missing-field-initializers
                                                      -Wnon-virtual-dtor -Woverloaded-virtual)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(dreamstate_warnings INTERFACE -Wthread-safety)
endif()
if(DREAMSTATE_WERROR)
  target_compile_options(dreamstate_warnings INTERFACE -Werror)
endif()
# Same sums on every compiler: a fused multiply-add happens only where the source says so.
add_compile_options(-ffp-contract=off)
