// What files may ask for at most (R17): every limit of data/limits.h, at one less than the file asks for, at it, and above.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <zlib.h>

#include <cstring>
#include <functional>

#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/image_io.h"
#include "data/limits.h"
#include "data/npy.h"
#include "data/png.h"
#include "data/polygon.h"
#include "data/rle.h"
#include "data/safetensors.h"
#include "data/sartorius.h"
#include "data/tiff.h"
#include "data/weights.h"
#include "tests/bytes_of.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"
#include "tests/weights_bytes.h"

using namespace glia;
using namespace glia::tests;

namespace {

// The limits are the process' own: they are as before when this goes.
class LimitsKept {
 public:
  LimitsKept() = default;
  ~LimitsKept() { file_limits() = saved_; }
  LimitsKept(const LimitsKept&) = delete;
  LimitsKept& operator=(const LimitsKept&) = delete;

 private:
  FileLimits saved_ = file_limits();
};

// `read` wants `value` of the limit: that much and more is enough, one less is an error that says how to raise it. `where` is
// in that error too, where several places hold the limit and the first of them is meant.
void check_limit(const std::string& name, int64_t value, const std::function<void()>& read, const std::string& where = "") {
  const LimitsKept kept;
  INFO(name << "=" << value);
  for (const int64_t allowed : {value + 1, value}) {
    set_file_limit(fmt::format("{}={}", name, allowed));
    CHECK_NOTHROW(read());
  }
  set_file_limit(fmt::format("{}={}", name, value - 1));
  const std::string message = data_error_of(read);
  CHECK_MESSAGE(message.find("--file-limit " + name + "=NUMBER raises it") != std::string::npos, message);
  CHECK_MESSAGE(message.find(where) != std::string::npos, message);
}

// The least number by which `size` can be divided so that no more than `most` is left.
int64_t least_ratio(int64_t size, int64_t most) {
  int64_t ratio = std::max<int64_t>(size / (most + 1), 1);
  while (size / ratio > most) ++ratio;
  return ratio;
}

// A PNG with a text of n bytes before its pixels.
std::string png_with_text(size_t n) {
  const auto big = [](uint64_t v) {
    return std::string{char(v >> 24 & 255), char(v >> 16 & 255), char(v >> 8 & 255), char(v & 255)};
  };
  std::string chunk = "tEXtkey" + std::string(1, '\0') + std::string(n - 4, 'x');
  const uLong crc = ::crc32(0, reinterpret_cast<const Bytef*>(chunk.data()), static_cast<uInt>(chunk.size()));
  std::string png = encode_png(Tensor::zeros({4, 5, 1}, DType::uint8), "x");
  return png.insert(33, big(n) + chunk + big(crc));
}

std::string coco(const std::string& info, int instances) {
  std::string all =
      "{\"info\": " + info +
      R"(, "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}], "categories": [{"id": 1, "name": "c"}], "annotations": [)";
  for (int i = 0; i < instances; ++i)
    all +=
        fmt::format(R"({}{{"id": {}, "image_id": 1, "category_id": 1, "segmentation": {{"size": [4, 4], "counts": [1, 15]}}}})",
                    i ? "," : "", i);
  return all + "]}";
}

}  // namespace

TEST_SUITE_BEGIN("limits");

TEST_CASE("limits: set by name, with what is wrong in an error") {
  const LimitsKept kept;
  set_file_limit("pixels=400M");
  CHECK(file_limits().pixels == 400'000'000);
  set_file_limit("json_depth=65");
  CHECK(file_limits().json_depth == 65);
  CHECK(ImageLimits{}.pixels == 400'000'000);
  for (const char* wrong : {"", "?", "pixels", "pixels=", "pixels=0", "pixels=-5", "pixels=4X", "pixels=1.5", "pixel=4", "=4",
                            "pixels=99999999999G", "pixels=4 "})
    CHECK_THROWS_WITH_AS(set_file_limit(wrong), doctest::Contains("json_depth (64), string_bytes (16777216)"), UsageError);
  CHECK(file_limits().pixels == 400'000'000);
}

TEST_CASE("limits: images and masks (R17)") {
  const std::string png = encode_png(Tensor::zeros({40, 50, 3}, DType::uint8), "x");
  const std::string tiff = encode_tiff(Tensor::zeros({3, 40, 50, 3}, DType::uint8), "x");
  for (const std::string& image : {png, tiff}) check_limit("pixels", 2000, [&] { decode_image(bytes_of(image), "x"); });
  check_limit("decoded_bytes", 6000, [&] { decode_image(bytes_of(png), "x"); });
  check_limit("decoded_bytes", 18000, [&] { decode_image(bytes_of(tiff), "x"); });
  check_limit("pages", 3, [&] { decode_image(bytes_of(tiff), "x"); });
  const std::string plain = encode_png(Tensor::zeros({3000, 3000, 3}, DType::uint8), "x");
  check_limit("image_ratio", least_ratio(27'000'000, static_cast<int64_t>(plain.size())),
              [&] { decode_image(bytes_of(plain), "x"); });
  const std::string text = png_with_text(1000);
  check_limit("png_chunk", 1000, [&] { decode_image(bytes_of(text), "x"); });
  check_limit("pixels", 2000, [] { rle_from_counts(std::vector<int64_t>{2000}, 1, 2000); });
  const std::vector<double> triangle{0, 0, 3, 0, 3, 3};
  check_limit(
      "pixels", 2000, [&] { rle_from_polygon(triangle, 40, 50); }, "polygon");
  Tensor labels({1, 5}, DType::int32);
  for (int i = 0; i < 5; ++i) labels.data<int32_t>()[i] = i + 1;
  check_limit("instances", 5, [&] { masks_of_labels(labels); });
}

TEST_CASE("limits: annotations (R17)") {
  const TemporaryFolder folder;
  const auto read_json = [&](const std::string& text) {
    write_file(folder / "c.json", text);
    Faults faults;
    read_coco(folder / "c.json", faults);
  };
  check_limit("json_depth", 31, [&] { read_json(coco(std::string(30, '[') + std::string(30, ']'), 0)); });
  check_limit("string_bytes", 1000, [&] { read_json(coco('"' + std::string(1000, 'x') + '"', 0)); });
  check_limit("instances", 5, [&] { read_json(coco("0", 5)); });
  check_limit("pixels", 16, [&] { read_json(coco("0", 0)); });
  std::string csv = "id,annotation,width,height,cell_type\n";
  for (int i = 0; i < 5; ++i) csv += fmt::format("a,{} 1,40,50,astro\n", i + 1);
  const auto read_csv = [&] {
    write_file(folder / "train.csv", csv);
    Faults faults;
    read_sartorius(folder / "train.csv", faults);
  };
  check_limit("instances", 5, read_csv);
  csv = "id,annotation,width,height,cell_type\na,,40,50,astro\n";  // no mask whose size would be checked as well
  check_limit("pixels", 2000, read_csv);
}

TEST_CASE("limits: files of weights and archives (R17)") {
  const TemporaryFolder folder;
  const auto path = folder / "file";
  const auto load = [&] {
    const Weights weights = read_weights(path);
    for (const StoredTensor& t : weights.tensors) weights.load(t);
  };
  write_safetensors(path, {{"a", Tensor::zeros({4})}});
  uint64_t header = 0;
  std::memcpy(&header, read_file(path).data(), sizeof header);
  check_limit("safetensors_header", static_cast<int64_t>(header), load);
  check_limit("safetensors_header", static_cast<int64_t>(header), [&] { write_safetensors(path, {{"a", Tensor::zeros({4})}}); });

  write_npz(path, {{"a", Tensor::zeros({1'000'000})}});
  const ZipFile zip(path);
  const auto size = static_cast<int64_t>(zip.entries()[0].size), packed = static_cast<int64_t>(zip.entries()[0].compressed);
  check_limit("tensor_growth", size - static_cast<int64_t>(read_file(path).size()), load);
  write_file(path, torch_zip_of(tensor(storage(4), "K\0"s, int4(1000) + "\x85", "K\0\x85"s)));  // one number 1000 times
  check_limit("tensor_growth", 4000, load);
  write_file(path, "\x80\2}" + text("key") + text(std::string(500, 'x')) + "s.");
  check_limit("string_bytes", 503, load);
  write_weights(path, weights_of({{"layer/kernel", Tensor::zeros({4})}}, "x"), WeightsFormat::hdf5);
  check_limit("string_bytes", 12, load);

  write_npz(path, {{"a", Tensor::zeros({1'000'000})}, {"b", Tensor::zeros({10})}});
  const auto members = [&] {
    const ZipFile archive(path);
    for (const ZipEntry& e : archive.entries()) archive.read(e);
  };
  check_limit("decoded_bytes", size + 168, members);
  write_npz(path, {{"a", Tensor::zeros({2'000'000})}});
  const ZipFile large(path, {.ratio = 1'000'000});
  check_limit("zip_ratio",
              least_ratio(static_cast<int64_t>(large.entries()[0].size), static_cast<int64_t>(large.entries()[0].compressed)),
              members);
  CHECK(packed < size);
}

TEST_SUITE_END();
