# Uses ccache when it is installed. What it is told to overlook is what precompiled headers need.
find_program(DREAMSTATE_CCACHE ccache)
if(DREAMSTATE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${DREAMSTATE_CCACHE})
endif()
