#pragma once
// A disk that loses power. WriteLog records the system calls of writing in a folder; after_power_loss() makes the folder that one may
// find after a cut: what was synced before it is there, of everything else any part may be, in any order.
//
//   writes to a file     durable by its fsync; else each is there, missing (zeros where a later one is there), or there in part
//   names in the folder  durable by the folder's fsync; else each rename, link, unlink or new name is there or not
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace glia::tests {

class WriteLog {
 public:
  explicit WriteLog(std::filesystem::path folder);  // records from here on; one at a time
  ~WriteLog();
  WriteLog(const WriteLog&) = delete;
  WriteLog& operator=(const WriteLog&) = delete;

  void stop();
  size_t size() const { return operations_.size(); }
  // Makes `to` anew: the folder after the first `cut` operations and a loss of power. Returns how many operations were lost.
  int after_power_loss(size_t cut, uint64_t seed, const std::filesystem::path& to) const;

 private:
  enum class Kind { create, write, sync_file, sync_folder, rename, link, unlink };
  struct Operation {
    Kind kind;
    size_t file = 0;     // number of its content
    std::string name{};  // of create, unlink; where a rename or link leads to
    std::string from{};  // of a rename
    size_t offset = 0;   // of a write
    std::string bytes{};
  };

  static WriteLog* active_;
  bool inside(const char* path) const;
  void opened(const char* path, int flags, int fd);
  void add(Operation operation) { operations_.push_back(std::move(operation)); }

  std::filesystem::path folder_;
  std::vector<Operation> operations_;
  size_t files_ = 0;
  std::map<std::string, size_t> names_;            // name -> file, as the running program sees it
  std::map<int, std::pair<size_t, size_t>> open_;  // descriptor -> file, offset
  std::map<int, bool> folders_;                    // descriptors of the folder
};

}  // namespace glia::tests
