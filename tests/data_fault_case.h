#pragma once
// Broken data sets: small ones that are whole, to be broken in one place, and what check-data and open_dataset have to say of one.
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "data/check_data.h"

namespace glia::tests {

namespace fs = std::filesystem;

// Gray picture whose pixels differ from seed to seed.
Tensor picture(int seed, int64_t height = 10, int64_t width = 12, int64_t channels = 1);

inline constexpr const char* csv_header = "id,annotation,width,height,cell_type\n";

// a.png and b.png with these rows.
void sartorius(const fs::path& folder, const std::string& csv);
std::string rows(const std::string& more);  // of both, and more

// a.png, b.png and an annotations.json whose parts can be replaced.
struct Coco {
  std::string images =
      R"({"id": 1, "file_name": "a.png", "width": 12, "height": 10}, {"id": 2, "file_name": "b.png", "width": 12, "height": 10})";
  std::string categories = R"({"id": 1, "name": "astro"}, {"id": 5, "name": "cort"})";
  std::string annotations =
      R"({"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": {"size": [10, 12], "counts": [3, 2, 115]}})";
};
void coco(const fs::path& folder, const Coco& c);

constexpr std::optional<ExitCode> thrown{};  // no data set at all: an exception (exit 3) instead of a report

struct DataFaultCase {
  const char* name;
  std::function<void(const fs::path&)> make;
  std::optional<ExitCode> code;
  Severity severity;   // of the fault
  const char* phrase;  // in the fault's kind or examples, or the error's message; "" = no fault at all
  DatasetOptions options{};
  const char* file = "";  // within the folder: what is opened
};

// Makes the data set of the case and checks what is said of it, with which exit code, and that it stays as it was.
void check_data_fault(const DataFaultCase& c);

}  // namespace glia::tests
