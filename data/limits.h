#pragma once
// How much a file may make this program take, whatever it says of itself. Readers check these before they take memory.
#include <cstdint>
#include <string>

namespace glia {

struct FileLimits {
  int64_t pixels = 178'956'970;               // height * width of a page of an image, or of a mask (Pillow's limit)
  int64_t decoded_bytes = int64_t{1} << 30;   // of all pages of an image; of all deflated members of an archive
  int64_t pages = 65'536;                     // of a TIFF
  int64_t image_ratio = 3'000;                // decoded bytes of an image per byte of its file, beyond the first 24 MiB
  int64_t png_chunk = int64_t{8} << 20;       // bytes of a PNG's chunk that holds no pixels
  int64_t json_depth = 64;                    // of nested lists and objects
  int64_t string_bytes = int64_t{16} << 20;   // of a string of JSON; of all names and texts of a file of weights
  int64_t instances = 100'000;                // of one image
  int64_t safetensors_header = 100'000'000;   // bytes; the limit of the format's own library
  int64_t zip_ratio = 1'000;                  // decoded bytes per compressed byte of a member, beyond the first 4 MiB
  int64_t tensor_growth = int64_t{16} << 20;  // bytes that a tensor may have and its file has not
};

// Those of this process. Not to be changed while files are read.
FileLimits& file_limits();

// "pixels=400000000" or "decoded_bytes=4G" sets that limit. UsageError for an unknown name or no number from 1; names all.
void set_file_limit(const std::string& assignment);

// What a message ends with where the limit of that name is exceeded: how it is raised.
std::string raise_hint(const char* name);

}  // namespace glia
