# cmake --install: the programs, the public contract for other languages, and the licence.
foreach(program dreamstate dreamstate-server dreamstate-trainer)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
install(DIRECTORY ${CMAKE_SOURCE_DIR}/proto/dreamstate
  DESTINATION ${CMAKE_INSTALL_DATADIR}/dreamstate/proto FILES_MATCHING PATTERN "*.proto")
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
