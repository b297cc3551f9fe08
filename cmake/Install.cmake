# cmake --install: the programs, the public contract for other languages, and the licence.
foreach(program dreamstate dreamstate-server dreamstate-trainer)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
install(DIRECTORY ${CMAKE_SOURCE_DIR}/proto/dreamstate
  DESTINATION ${CMAKE_INSTALL_DATADIR}/dreamstate/proto COMPONENT protos FILES_MATCHING PATTERN "*.proto")
# What it imports and what its errors carry (googleapis, Apache-2.0 too), so that protoc needs nothing else.
install(FILES ${DREAMSTATE_THIRD_PARTY}/googleapis/google/rpc/status.proto
  ${DREAMSTATE_THIRD_PARTY}/googleapis/google/rpc/error_details.proto
  DESTINATION ${CMAKE_INSTALL_DATADIR}/dreamstate/proto/google/rpc COMPONENT protos)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
