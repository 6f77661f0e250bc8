#include "tests/data_fault_case.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "tests/paths.h"

namespace glia::tests {

Tensor picture(int seed, int64_t height, int64_t width, int64_t channels) {
  Tensor image({height, width, channels}, DType::uint8);
  for (int64_t i = 0; i < image.size(); ++i) image.data<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + seed * 31);
  return image;
}

void sartorius(const fs::path& folder, const std::string& csv) {
  fs::create_directories(folder / "train");
  write_png(folder / "train" / "a.png", picture(1));
  write_png(folder / "train" / "b.png", picture(2));
  write_file(folder / "train.csv", csv);
}
std::string rows(const std::string& more) {
  return std::string(csv_header) + "a,1 3 13 3,12,10,astro\nb,14 2 26 2,12,10,cort\n" + more;
}

void coco(const fs::path& folder, const Coco& c) {
  write_png(folder / "a.png", picture(1));
  write_png(folder / "b.png", picture(2));
  write_file(folder / "annotations.json", "{\"images\": [" + c.images + "], \"categories\": [" + c.categories +
                                              "], \"annotations\": [" + c.annotations + "]}");
}

namespace {

std::vector<std::string> contents(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    all.push_back(entry.path().string() + (entry.is_regular_file() ? read_file(entry.path()) : ""));
  }
  std::sort(all.begin(), all.end());
  return all;
}

bool mentions(const Fault& fault, const std::string& phrase) {
  return fault.kind.find(phrase) != std::string::npos ||
         std::any_of(fault.examples.begin(), fault.examples.end(),
                     [&](const std::string& e) { return e.find(phrase) != std::string::npos; });
}

std::string listing(const DataReport& report) {
  std::string text;
  for (const Fault& f : report.faults)
    text += fmt::format("[{} {}: {}] ", name_of(f.severity), f.kind, f.examples.empty() ? "" : f.examples[0]);
  return text;
}

}  // namespace

void check_data_fault(const DataFaultCase& c) {
  const std::string name = c.name;
  CAPTURE(name);
  const TemporaryFolder temporary;
  const fs::path folder = temporary / "data";
  fs::create_directories(folder);
  c.make(folder);
  const auto before = contents(temporary.path());
  const fs::path path = *c.file ? folder / c.file : folder;

  if (!c.code) {
    try {
      check_data(path, c.options);
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(int(error.code()) == int(ExitCode::data));
      CHECK(std::string(error.what()).find(c.phrase) != std::string::npos);
    }
    return;
  }
  const DataReport report = check_data(path, c.options);
  CAPTURE(listing(report));
  CHECK(int(report.exit_code()) == int(*c.code));
  CHECK(to_text(report).find(c.phrase) != std::string::npos);
  CHECK(to_json(report).find(c.code == ExitCode::ok ? "\"ok\":true" : "\"ok\":false") != std::string::npos);
  if (*c.phrase) {
    const auto found =
        std::find_if(report.faults.begin(), report.faults.end(), [&](const Fault& f) { return mentions(f, c.phrase); });
    REQUIRE(found != report.faults.end());
    CHECK(int(found->severity) == int(c.severity));
  } else {
    CHECK(report.faults.empty());
  }
  // A training opens the data and reads the pixels: it stops for the same reason, and only then.
  int code = 0;
  try {
    const Dataset dataset = open_dataset(path, c.options);
    for (size_t i = 0; i < dataset.samples.size(); ++i) read_example(dataset, static_cast<int64_t>(i));
  } catch (const Error& error) {
    code = int(error.code());
  }
  if (c.code != ExitCode::ok || !c.options.skip_corrupt) CHECK(code == int(*c.code));
  CHECK(contents(temporary.path()) == before);
}

}  // namespace glia::tests
