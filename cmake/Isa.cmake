# dreamstate_isa_sources(<target> <avx2|avx512|avx512vnni|avx512bf16|amx> FILES...)
#   Compiles FILES with the flags of one instruction set and adds them to <target>. Which of them runs is chosen at run time
#   (kernels/runtime/cpu.h). Such a file calls no inline function or template of the standard library or Abseil: the linker
#   may keep its copy for the whole program.
set(DREAMSTATE_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(DREAMSTATE_ISA_FLAGS_avx512 ${DREAMSTATE_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
set(DREAMSTATE_ISA_FLAGS_avx512vnni ${DREAMSTATE_ISA_FLAGS_avx512} -mavx512vnni)
set(DREAMSTATE_ISA_FLAGS_avx512bf16 ${DREAMSTATE_ISA_FLAGS_avx512vnni} -mavx512bf16)
set(DREAMSTATE_ISA_FLAGS_amx ${DREAMSTATE_ISA_FLAGS_avx512bf16} -mamx-tile -mamx-int8 -mamx-bf16)
function(dreamstate_isa_sources target isa)
  if(NOT DEFINED DREAMSTATE_ISA_FLAGS_${isa})
    message(FATAL_ERROR "dreamstate_isa_sources: unknown instruction set ${isa}")
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${DREAMSTATE_ISA_FLAGS_${isa}}")
endfunction()
