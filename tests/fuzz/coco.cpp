#include "data/coco_json.h"

#include <sys/mman.h>
#include <unistd.h>

#include "data/rle.h"
#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {
namespace {

// The bytes as a file that lies in memory.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : fd_(::memfd_create("coco", MFD_CLOEXEC)) {
    GLIA_CHECK(fd_ >= 0 && ::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "memfd");
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// Every mask that was read is one of its image's size.
void check_masks(const Dataset& dataset) {
  for (const Sample& sample : dataset.samples)
    for (const Instance& instance : sample.instances) {
      GLIA_CHECK(instance.mask.height == sample.height && instance.mask.width == sample.width, "a mask of another size");
      int64_t pixels = 0;
      for (const auto count : instance.mask.counts) pixels += count;
      GLIA_CHECK(pixels == sample.height * sample.width, "runs of {} pixels", pixels);
      GLIA_CHECK(instance.category >= 0 && instance.category < static_cast<int>(dataset.categories.size()), "a category");
    }
}

}  // namespace

void fuzz_coco(Bytes bytes) {
  const MemoryFile file(bytes);
  Dataset truth{{"a", "b"}, {}, {}};
  truth.samples.push_back({"one", {}, 8, 8, {}, {}});
  try {
    Faults faults;
    truth = read_coco(file.path(), faults).dataset;
    check_masks(truth);
  } catch (const DataError&) {
  }
  try {
    Faults faults;
    read_coco_images(file.path(), faults);
  } catch (const DataError&) {
  }
  try {
    Faults faults;
    if (is_coco_results(file.path())) check_masks(read_coco_results(file.path(), truth, faults));
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
