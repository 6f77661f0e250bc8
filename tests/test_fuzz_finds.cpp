// Inputs that once crashed, hung or bloated a reader (tests/fixtures/hostile) and the seeds, through every reader: an error of
// the data, or a clean load (R12, R45).
#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "tensor/error.h"
#include "tests/fuzz/targets.h"
#include "tests/paths.h"
#include "train/checkpoint.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

TEST_SUITE_BEGIN("weights");

TEST_CASE("what the fuzzers found, through every reader (R12)") {
  constexpr void (*readers[])(Bytes) = {fuzz_zip,  fuzz_pickle, fuzz_safetensors, fuzz_npy,  fuzz_checkpoint,
                                        fuzz_hdf5, fuzz_rle,    fuzz_csv,         fuzz_coco, fuzz_config};
  size_t count = 0;
  for (const fs::path& folder : {source_folder() / "tests/fuzz/corpus", source_folder() / "tests/fixtures/hostile"}) {
    if (!fs::exists(folder)) continue;
    for (const auto& file : fs::directory_iterator(folder)) {
      INFO(file.path().string());
      std::ifstream in(file.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      for (const auto& reader : readers) CHECK_NOTHROW(reader(std::as_bytes(std::span(bytes))));
      ++count;
    }
  }
  CHECK(count >= 5);
}

TEST_CASE("a checkpoint's numbers that are no integers are errors (F13)") {
  TrainingState state;
  for (const char* text : {"1e300", "-1e300", "nan", "inf", "9.3e18", "twelve", ""}) {
    INFO(text);
    state.set("wait", std::string(text));
    CHECK_THROWS_AS(state.integer("wait", 0), DataError);
  }
  state.set("wait", int64_t{-12});
  CHECK(state.integer("wait", 0) == -12);
  CHECK(state.integer("absent", 3) == 3);
}

TEST_SUITE_END();
