# The GPU: the emulator always, CUDA where nvcc is found (GLIA_CUDA).
set(GLIA_CUDA ON CACHE STRING "CUDA: ON where nvcc is found, OFF, or REQUIRED")
set(GLIA_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "What nvcc compiles for")

set(GLIA_WITH_CUDA OFF)
if(GLIA_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(GLIA_CUDA STREQUAL REQUIRED AND NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "The preset cuda needs nvcc: install the CUDA toolkit, or put its bin/ on PATH")
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES ${GLIA_CUDA_ARCHITECTURES})
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/scripts/nvcc_with_report.sh)
    set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
    set(GLIA_WITH_CUDA ON)
    target_compile_definitions(glia_options INTERFACE GLIA_WITH_CUDA)
    # CMake 3.25 knows no C++20 of nvcc 13, and says nothing. fmt 9 takes nvcc for a compiler without constexpr, and its consteval
    # constructors fail there.
    target_compile_options(glia_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
    target_compile_definitions(glia_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>"
                               "$<$<COMPILE_LANGUAGE:CUDA>:FMT_CONSTEVAL=>")
  endif()
endif()

# How the emulator's kernels are compiled: for tests, built fast, not fast. The sanitizers' programs run where they were built, and may take
# its instructions: calls of fmaf were nearly half of a training's time there.
set(emulator_options "$<$<CONFIG:Release>:-O1>;-ffp-contract=off")
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize" AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo fma REGEX "^flags.* fma( |$)" LIMIT_COUNT 1)
  if(fma)
    list(APPEND emulator_options -mfma)
  endif()
endif()

# gpu_kernels(TARGET FILES...): adds kernel files (.cu) to a library, compiled by the host's compiler for the emulator and, with
# CUDA, by nvcc. One directory can hold a source under one language only, so the emulator compiles a file that includes the .cu.
function(gpu_kernels target)
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file OUTPUT_VARIABLE source)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE relative)
    set(copy ${CMAKE_BINARY_DIR}/emulated/${relative}.cpp)
    file(CONFIGURE OUTPUT ${copy} CONTENT "#include \"${source}\"\n" @ONLY)
    target_sources(${target} PRIVATE ${copy})
    set_source_files_properties(${copy} PROPERTIES COMPILE_OPTIONS "${emulator_options}")
    if(GLIA_WITH_CUDA)
      target_sources(${target} PRIVATE ${source})
    endif()
  endforeach()
endfunction()

# gpu_race_kernels(TARGET FILES...): the same files for the emulator's race checker: instrumented as for the thread sanitizer, whose calls
# gpu/emulator/race_build answers. A program that links TARGET first runs these instead of the plain ones.
function(gpu_race_kernels target)
  foreach(file ${ARGN})
    cmake_path(ABSOLUTE_PATH file OUTPUT_VARIABLE source)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${CMAKE_SOURCE_DIR} OUTPUT_VARIABLE relative)
    set(copy ${CMAKE_BINARY_DIR}/race/${relative}.cpp)
    file(CONFIGURE OUTPUT ${copy} CONTENT "#include \"${source}\"\n" @ONLY)
    list(APPEND copies ${copy})
  endforeach()
  set_source_files_properties(${copies} PROPERTIES COMPILE_OPTIONS "-fsanitize=thread;-O1;-g1;-Wno-tsan")
  file(GLOB hooks CONFIGURE_DEPENDS gpu/emulator/race_build/*.cpp)
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${copies} ${hooks})
  target_link_libraries(${target} PUBLIC glia_options)
endfunction()

file(GLOB gpu_sources CONFIGURE_DEPENDS gpu/*.cpp gpu/emulator/*.cpp)
add_library(glia_gpu STATIC ${gpu_sources})
target_link_libraries(glia_gpu PUBLIC glia_options ${CMAKE_DL_LIBS})
if(GLIA_WITH_CUDA)
  target_link_libraries(glia_gpu PUBLIC CUDA::cudart_static)
endif()
gpu_kernels(glia_gpu gpu/runtime.cu)
