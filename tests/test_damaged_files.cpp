// Every kind of file cut off, and with changed bytes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "data/csv.h"
#include "data/image_io.h"
#include "data/imagej_roi.h"
#include "data/npy.h"
#include "data/safetensors.h"
#include "data/tensorboard.h"
#include "tests/bytes_of.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

namespace {

// Reads a file of any kind from memory, as far as reading goes.
void decode_any(const std::string& name, std::string_view text) {
  const auto bytes = bytes_of(text);
  const auto ends = [&](const char* ending) { return name.ends_with(ending); };
  if (ends(".png") || ends(".tif") || ends(".jpg")) {
    decode_image(bytes, name);
  } else if (ends(".safetensors")) {
    const SafetensorsFile file(bytes, name);
    for (const auto& e : file.entries()) file.load(e.name);
  } else if (ends(".npy")) {
    decode_npy(bytes, name);
  } else if (ends(".npz") || ends(".zip")) {
    const ZipFile zip(bytes, name);
    for (const auto& e : zip.entries()) zip.read(e);
  } else if (ends(".roi")) {
    decode_roi(bytes, name);
  } else if (has(name, "tfevents")) {
    decode_events(bytes, name);
  } else if (ends(".csv")) {
    for (CsvReader csv(text, name); csv.next();) {
    }
  } else {
    throw InternalError("{}: no reader", name);
  }
}

std::vector<fs::path> sample_files() {
  std::vector<fs::path> files;
  const fs::path folder = source_folder() / "tests/fixtures";
  for (const char* sub : {"data", "jpeg"}) {
    for (const auto& entry : fs::directory_iterator(folder / sub)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("broken_") && !name.ends_with(".json") && name != "expected.safetensors")
        files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("files: cut off anywhere (R25)") {
  for (const fs::path& path : sample_files()) {
    const std::string name = path.filename().string(), whole = read_file(path);
    CAPTURE(name);
    CHECK_NOTHROW(decode_any(name, whole));
    if (name.ends_with(".csv")) continue;  // a table that ends after a line is a good one
    std::vector<size_t> record_ends{0};    // of an event file: 8 bytes of length, a checksum, the record, a checksum
    for (uint64_t length = 0; has(name, "tfevents") && record_ends.back() < whole.size();) {
      std::memcpy(&length, whole.data() + record_ends.back(), sizeof length);
      record_ends.push_back(record_ends.back() + length + 16);
    }
    const size_t step = std::max<size_t>(1, whole.size() / 500);
    for (size_t n = 0; n < whole.size(); n += step) {
      CAPTURE(n);
      if (has(name, "tfevents")) {  // whole records before the cut are a good file
        size_t records = 0;
        const std::string message =
            data_error_of([&] { records = decode_events(bytes_of(std::string_view(whole).substr(0, n)), name).size(); });
        const auto end = std::find(record_ends.begin(), record_ends.end(), n);
        CHECK(message.empty() == (n > 0 && end != record_ends.end()));
        CHECK((message.empty() ? records == static_cast<size_t>(end - record_ends.begin()) : has(message, "cut off") || n == 0));
        continue;
      }
      const std::string_view cut = std::string_view(whole).substr(0, n);
      if (name == "pages.tif" && n >= whole.size() - 16) {  // it ends with a text for people; all pixels are there
        const Tensor got = decode_image(bytes_of(cut), name).pixels, want = decode_image(bytes_of(whole), name).pixels;
        CHECK(std::memcmp(got.raw(), want.raw(), want.bytes()) == 0);
        continue;
      }
      CHECK_THROWS_AS(decode_any(name, cut), DataError);
    }
  }
}

TEST_CASE("files: changed bytes are an error or another content, never a crash") {
  std::mt19937 random(7);
  for (const fs::path& path : sample_files()) {
    const std::string name = path.filename().string(), whole = read_file(path);
    CAPTURE(name);
    int errors = 0;
    constexpr int tries = 150;
    for (int k = 0; k < tries; ++k) {
      std::string changed = whole;
      for (unsigned n = 1 + random() % 4; n > 0; --n) {
        const size_t limit = k % 2 ? changed.size() : std::min<size_t>(changed.size(), 300);  // headers more often
        changed[random() % limit] = static_cast<char>(k % 3 ? random() : (random() % 2 ? 0xff : 0));
      }
      try {
        decode_any(name, changed);
      } catch (const DataError& e) {
        ++errors;
        CHECK(std::string(e.what()).starts_with(name));
      }
    }
    CHECK(errors <= tries);
  }
}

TEST_SUITE_END();
