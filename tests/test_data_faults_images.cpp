// Broken images of a data set, one fault each.
#include <doctest/doctest.h>

#include <cmath>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "tests/data_fault_case.h"

namespace glia::tests {
namespace {

std::vector<DataFaultCase> image_cases() {
  const auto replaced = [](std::function<void(const fs::path&)> change) {
    return [change](const fs::path& f) {
      sartorius(f, rows(""));
      change(f / "train");
    };
  };
  const ExitCode ok = ExitCode::ok, data = ExitCode::data;
  const Severity stop = Severity::stop, warn = Severity::warn, drop = Severity::drop, note = Severity::note;
  return {
      {"missing image", replaced([](const fs::path& t) { fs::remove(t / "a.png"); }), data, stop, "missing image"},
      {"missing image, skipped",
       replaced([](const fs::path& t) { fs::remove(t / "a.png"); }),
       ok,
       drop,
       "missing image",
       {.skip_corrupt = true}},
      {"0-byte image", replaced([](const fs::path& t) { write_file(t / "a.png", ""); }), data, stop, "image that cannot be read"},
      {"text as image", replaced([](const fs::path& t) { write_file(t / "a.png", "hello"); }), data, stop, "a.png"},
      {"truncated image", replaced([](const fs::path& t) {
         const std::string content = read_file(t / "a.png");
         write_file(t / "a.png", content.substr(0, content.size() - 30));
       }),
       data, stop, "image that cannot be read"},
      {"truncated image, skipped",
       replaced([](const fs::path& t) {
         const std::string content = read_file(t / "a.png");
         write_file(t / "a.png", content.substr(0, content.size() - 30));
       }),
       ok,
       drop,
       "image that cannot be read",
       {.skip_corrupt = true}},
      {"flipped byte", replaced([](const fs::path& t) {
         std::string content = read_file(t / "a.png");
         content[content.size() / 2] ^= 0x55;
         write_file(t / "a.png", content);
       }),
       data, stop, "image that cannot be read"},
      {"another size", replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 10, 13)); }), data, stop,
       "image size is not the annotation's"},
      {"another size, skipped",
       replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 10, 13)); }),
       ok,
       drop,
       "10 x 13",
       {.skip_size_mismatch = true}},
      {"height and width swapped", replaced([](const fs::path& t) { write_png(t / "a.png", picture(1, 12, 10)); }), data, stop,
       "swapped?"},
      {"mixed channels", replaced([](const fs::path& t) { write_png(t / "b.png", picture(1, 10, 12, 3)); }), data, stop,
       "mixed channel counts"},
      {"RGB throughout", replaced([](const fs::path& t) {
         write_png(t / "a.png", picture(1, 10, 12, 3));
         write_png(t / "b.png", picture(2, 10, 12, 3));
       }),
       ok, note, ""},
      {"16 bits", replaced([](const fs::path& t) { write_png(t / "b.png", picture(3).cast(DType::int32)); }), ok, note, ""},
      {"constant image", replaced([](const fs::path& t) {
         write_png(t / "b.png", Tensor::full({10, 12, 1}, 9, DType::uint8));
       }),
       ok, warn, "constant image"},
      {"the same picture twice", replaced([](const fs::path& t) { write_png(t / "b.png", picture(1)); }), ok, warn,
       "the same picture twice"},
      {"image without annotation", replaced([](const fs::path& t) { write_png(t / "c.png", picture(3)); }), ok, note,
       "image without annotation"},
      {"one name, two files", replaced([](const fs::path& t) { write_tiff(t / "a.tif", picture(3)); }), data, stop,
       "image name twice"},
      {"NaN pixel", replaced([](const fs::path& t) {
         Tensor x = Tensor::zeros({10, 12});
         x.data<float>()[5] = NAN;
         fs::remove(t / "b.png");
         write_tiff(t / "b.tif", x);
       }),
       data, stop, "NaN"},
      {"several pages", replaced([](const fs::path& t) {
         fs::remove(t / "b.png");
         write_tiff(t / "b.tif", Tensor::zeros({3, 10, 12, 1}, DType::uint8));
       }),
       data, stop, "image of several pages"},
      {"link that leads outside", replaced([](const fs::path& t) {
         fs::rename(t / "a.png", t.parent_path().parent_path() / "outside.png");
         fs::create_symlink("../../outside.png", t / "a.png");
       }),
       data, stop, "leads out"},
      {"link that leads outside, allowed",
       replaced([](const fs::path& t) {
         fs::rename(t / "a.png", t.parent_path().parent_path() / "outside.png");
         fs::create_symlink("../../outside.png", t / "a.png");
       }),
       ok,
       note,
       "",
       {.allow_outside = true}},
      {"name that is no UTF-8",
       [](const fs::path& f) {
         sartorius(f, std::string(csv_header) + "\xE9\xFF,1 3,12,10,x\n");
         fs::remove(f / "train" / "a.png");
         fs::rename(f / "train" / "b.png", f / "train" / "\xE9\xFF.png");
       },
       ok, note, ""},
  };
}

TEST_SUITE_BEGIN("data");

TEST_CASE("broken data: images") {
  for (const DataFaultCase& c : image_cases()) check_data_fault(c);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia::tests
