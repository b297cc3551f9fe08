# How every directory declares what it builds; each takes SOURCES and DEPENDS.
#   dreamstate_library(<name> ...)     a static library of our own code; headers alone when there are no SOURCES. HIDDEN is
#                                      what only its sources see: users link it, but get none of its include paths
#   dreamstate_binary(<name> ...)      a program, in <build>/bin
#   dreamstate_test(<name> ...)        a GoogleTest program, run by ctest; LABELS and TIMEOUT (seconds) are optional
#   dreamstate_benchmark(<name> ...)   a program in <build>/bin/benchmarks that ctest never runs
function(dreamstate_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;HIDDEN" ${ARGN})
  if(NOT A_SOURCES)
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${A_DEPENDS})
    return()
  endif()
  add_library(${name} STATIC ${A_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${A_DEPENDS} PRIVATE ${A_HIDDEN} dreamstate_warnings)
endfunction()

function(dreamstate_binary name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${A_DEPENDS} dreamstate_warnings)
endfunction()

function(dreamstate_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  dreamstate_binary(${name} SOURCES ${A_SOURCES} DEPENDS ${A_DEPENDS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/tests)
  # Tests take longer to compile than to run.
  dreamstate_glue(${name})
  # What a test may read: files under tests/data, found here and nowhere else.
  target_compile_definitions(${name} PRIVATE DREAMSTATE_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
  add_test(NAME ${name} COMMAND ${name})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  if(DREAMSTATE_SANITIZER)
    math(EXPR A_TIMEOUT "4 * ${A_TIMEOUT}")
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
  dreamstate_sanitizer_environment(environment ${name})
  if(environment)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT "${environment}")
  endif()
endfunction()

function(dreamstate_benchmark name)
  if(NOT DREAMSTATE_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS" ${ARGN})
  dreamstate_binary(${name} SOURCES ${A_SOURCES} DEPENDS ${A_DEPENDS} benchmark::benchmark)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/benchmarks)
endfunction()

# dreamstate_precompile(<target> <header>...): reads these headers of other projects once for all of its sources.
# Every source still includes what it uses.
function(dreamstate_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # so that ccache understands it
  endif()
endfunction()

# dreamstate_precompiled_with(<target> <other>): uses what <other> precompiled; both are compiled with the same options.
function(dreamstate_precompiled_with target other)
  target_precompile_headers(${target} REUSE_FROM ${other})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()

# dreamstate_glue(<target>): code that waits for files, networks and people, and takes longest to compile. -O3 would double
# that and be felt by nobody.
function(dreamstate_glue target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()
