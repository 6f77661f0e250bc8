# One libFuzzer program per target, and of the library only the readers: builds in about a minute.
file(GLOB readers CONFIGURE_DEPENDS data/npy.cpp data/pickle*.cpp data/safetensors*.cpp data/stored_tensor.cpp data/torch_file.cpp
     data/weights*.cpp data/atomic_file.cpp data/zip.cpp data/rle.cpp data/csv.cpp data/latin1.cpp data/limits.cpp
     data/hdf5*.cpp data/coco_json.cpp data/coco_entries.cpp data/polygon.cpp data/faults.cpp
     data/rle_*.cpp data/image_io.cpp data/png.cpp data/jpeg.cpp data/tiff*.cpp
     train/config*.cpp train/on_nan.cpp)
# Debian's libfmt was built by g++ and lacks an instance that clang asks for here.
set_source_files_properties(data/rle.cpp train/config.cpp train/config_check.cpp train/config_keys.cpp train/config_toml.cpp PROPERTIES COMPILE_DEFINITIONS FMT_HEADER_ONLY)
set_source_files_properties(data/safetensors_header.cpp data/coco_json.cpp PROPERTIES
  COMPILE_OPTIONS -fsanitize-ignorelist=${CMAKE_SOURCE_DIR}/tests/fuzz/ignore.txt)
add_library(glia_readers STATIC ${readers} train/checkpoint.cpp ${CMAKE_BINARY_DIR}/recipes.cpp)
target_link_libraries(glia_readers PUBLIC glia_tensor PNG::PNG JPEG::JPEG TIFF::TIFF ZLIB::ZLIB)
foreach(target zip pickle safetensors npy checkpoint hdf5 rle csv coco config)
  add_executable(fuzz_${target} tests/fuzz/main.cpp tests/fuzz/${target}.cpp)
  target_compile_definitions(fuzz_${target} PRIVATE GLIA_FUZZ_TARGET=fuzz_${target})
  target_link_libraries(fuzz_${target} PRIVATE glia_readers)
  target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
endforeach()
