# The warnings that our own code is held to; third-party headers are SYSTEM.
add_library(dreamstate_warnings INTERFACE)
set(warnings -Wall -Wextra -Wpedantic -Wshadow -Wno-unused-parameter -Wno-missing-field-initializers -Wnon-virtual-dtor
             -Woverloaded-virtual)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  list(APPEND warnings -Wthread-safety)
endif()
if(DREAMSTATE_WERROR)
  list(APPEND warnings -Werror)
endif()
# nvcc's own front end warns in words of its own.
target_compile_options(dreamstate_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
# Same sums on every compiler: a fused multiply-add happens only where the source says so.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
