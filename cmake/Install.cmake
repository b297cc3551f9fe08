# cmake --install: the programs, the public contract for other languages, and the licence.
foreach(program dreamstate dreamstate-server dreamstate-trainer)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
# Trainer and server need LibTorch. The one that deploy/dependencies.sh unpacked is installed beside the programs, in the folders
# in which its own libraries look for each other; another one (-DTORCH_ROOT=) stays where it is.
if(TARGET dreamstate-trainer)
  cmake_path(IS_PREFIX DREAMSTATE_THIRD_PARTY ${TORCH_ROOT} NORMALIZE ours)
  if(ours)
    set(home ${CMAKE_INSTALL_LIBDIR}/dreamstate)
    file(GLOB torch_files ${TORCH_ROOT}/lib/*.so*)
    if(NOT DREAMSTATE_CUDA_TORCH)
      list(FILTER torch_files INCLUDE REGEX "/lib(torch_cpu|c10|gomp)[.]so")
    endif()
    install(FILES ${torch_files} DESTINATION ${home}/torch/lib)
    file(GLOB cuda_files ${DREAMSTATE_THIRD_PARTY}/nvidia/cu13/lib/*.so*)
    install(FILES ${cuda_files} DESTINATION ${home}/nvidia/cu13/lib)
    file(RELATIVE_PATH torch_path ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR}/dreamstate/torch/lib)
    set_target_properties(dreamstate-trainer dreamstate-server PROPERTIES INSTALL_RPATH "$ORIGIN/${torch_path}")
  else()
    set_target_properties(dreamstate-trainer dreamstate-server PROPERTIES INSTALL_RPATH ${TORCH_ROOT}/lib)
  endif()
endif()
install(DIRECTORY ${CMAKE_SOURCE_DIR}/proto/dreamstate
  DESTINATION ${CMAKE_INSTALL_DATADIR}/dreamstate/proto COMPONENT protos FILES_MATCHING PATTERN "*.proto")
# What it imports and what its errors carry (googleapis, Apache-2.0 too), so that protoc needs nothing else.
install(FILES ${DREAMSTATE_THIRD_PARTY}/googleapis/google/rpc/status.proto
  ${DREAMSTATE_THIRD_PARTY}/googleapis/google/rpc/error_details.proto
  DESTINATION ${CMAKE_INSTALL_DATADIR}/dreamstate/proto/google/rpc COMPONENT protos)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
