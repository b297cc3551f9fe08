# Our CUDA kernels are compiled wherever nvcc is found, with or without a GPU: DREAMSTATE_CUDA says so. Machine code for
# Hopper, and PTX for what comes after.
# Sanitized builds leave them out: what instruments C++ does not reach them.
set(DREAMSTATE_CUDA OFF)
if(NOT DREAMSTATE_SANITIZER AND NOT DREAMSTATE_FUZZ)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES 90)
  set(CMAKE_CUDA_STANDARD 17) # CMake 3.25 does not know that nvcc 13 has C++20
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(DREAMSTATE_CUDA ON)
endif()
