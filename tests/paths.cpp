#include "tests/paths.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace glia::tests {

namespace fs = std::filesystem;

fs::path source_folder() { return GLIA_SOURCE_DIR; }

fs::path fixtures_folder() {
  const char* folder = std::getenv("GLIA_FIXTURES");
  return folder ? fs::path(folder) : source_folder() / "tests" / "fixtures";
}

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> count{0};
  path_ = fs::temp_directory_path() / ("glia-test-" + std::to_string(getpid()) + "-" + std::to_string(count++));
  fs::remove_all(path_);
  fs::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

}  // namespace glia::tests
