# dreamstate_torch: LibTorch as deploy/dependencies.sh unpacks it out of the PyPI wheel, or any other with lib/ and
# include/ through -DTORCH_ROOT=. The wheel's own TorchConfig.cmake is not used: it asks for a whole CUDA.
set(TORCH_ROOT ${DREAMSTATE_THIRD_PARTY}/torch CACHE PATH "LibTorch: the folder that holds lib/ and include/")

set(dreamstate_torch_libraries torch_cpu c10)
if(DREAMSTATE_CUDA_TORCH)
  list(PREPEND dreamstate_torch_libraries torch_cuda c10_cuda)
endif()
add_library(dreamstate_torch INTERFACE)
foreach(library ${dreamstate_torch_libraries})
  set(file ${TORCH_ROOT}/lib/lib${library}.so)
  if(NOT EXISTS ${file})
    if(DREAMSTATE_CUDA_TORCH)
      set(hint "deploy/dependencies.sh --cuda")
    else()
      set(hint "deploy/dependencies.sh")
    endif()
    message(FATAL_ERROR "LibTorch: ${file} is missing. Run ${hint}, or name your own LibTorch with -DTORCH_ROOT=")
  endif()
  add_library(dreamstate_torch_${library} SHARED IMPORTED)
  set_target_properties(dreamstate_torch_${library} PROPERTIES IMPORTED_LOCATION ${file})
  target_link_libraries(dreamstate_torch INTERFACE dreamstate_torch_${library})
endforeach()
target_include_directories(dreamstate_torch SYSTEM INTERFACE
  ${TORCH_ROOT}/include ${TORCH_ROOT}/include/torch/csrc/api/include)
# torch's headers run loops on several threads only where they are compiled with the OpenMP that torch itself uses.
find_package(OpenMP COMPONENTS CXX)
if(OpenMP_CXX_FOUND)
  target_link_libraries(dreamstate_torch INTERFACE OpenMP::OpenMP_CXX)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  message(FATAL_ERROR "OpenMP: this compiler has none; install GCC's libgomp")
endif()
# torch's libraries find theirs (CUDA's runtime, their own libgomp) through their RPATH only when they are loaded.
target_link_options(dreamstate_torch INTERFACE -Wl,--allow-shlib-undefined)
if(DREAMSTATE_CUDA_TORCH)
  # Nothing in our code names a symbol of these two; loading them is what registers the CUDA device.
  target_link_options(dreamstate_torch INTERFACE -Wl,--no-as-needed)
  target_compile_definitions(dreamstate_torch INTERFACE DREAMSTATE_TORCH_CUDA=1)
endif()
