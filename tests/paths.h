#pragma once
// Where tests find their files.
#include <filesystem>
#include <set>
#include <string>

namespace glia::tests {

std::filesystem::path source_folder();    // the repository
std::filesystem::path fixtures_folder();  // GLIA_FIXTURES, or tests/fixtures

std::set<std::string> names_in(const std::filesystem::path& folder);  // of its files and folders

// A new empty folder for one test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace glia::tests
