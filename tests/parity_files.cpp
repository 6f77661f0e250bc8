// Every file that data/files.json of the fixtures lists behaves as listed: the content other programs wrote into it, or a clear
// error. The decoded arrays are in data/expected.safetensors, under the files' names.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <map>
#include <string>

#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/image_io.h"
#include "data/imagej_roi.h"
#include "data/npy.h"
#include "data/rle.h"
#include "data/safetensors.h"
#include "data/sartorius.h"
#include "data/tensorboard.h"
#include "tensor/memory.h"
#include "tests/paths.h"

namespace glia::tests {
namespace {

namespace fs = std::filesystem;

constexpr size_t most_memory = size_t{64} << 20;  // for a broken file of a few KB

// The same values, whatever axes of length 1 and integer type they came in.
void check_equal(const Tensor& got, const Tensor& want) {
  REQUIRE(got.size() == want.size());
  const Tensor reshaped = got.reshape(want.shape()).cast(want.dtype());
  int64_t different = 0;
  const size_t element = size_of(want.dtype());
  for (size_t i = 0; i < want.bytes(); i += element) different += std::memcmp(reshaped.raw() + i, want.raw() + i, element) != 0;
  CHECK(different == 0);
}

struct Listed {
  fs::path path;
  std::string name;
  const rapidjson::Value& entry;
  const SafetensorsFile& expected;
};

// A listed good file is compared with what is expected; a broken one must throw before that.
void read_listed_image(const Listed& f) {
  const ImageFile image = read_image(f.path);
  const Tensor want = f.expected.load(f.name);
  check_equal(image.pixels, want);
  const ImageFacts facts = read_image_facts(f.path);
  const bool pages = facts.pages > 1;
  CHECK(image.pixels.shape() == (pages ? Shape{facts.pages, facts.height, facts.width, facts.channels}
                                       : Shape{facts.height, facts.width, facts.channels}));
  CHECK(want.dim(pages ? 1 : 0) == facts.height);
  CHECK(want.dim(pages ? 2 : 1) == facts.width);
  CHECK(image_size(f.path) == std::array<int64_t, 2>{facts.height, facts.width});
  CHECK(image.pixels.dtype() == facts.dtype);
}

void read_listed_safetensors(const Listed& f) {
  const SafetensorsFile file(f.path);
  for (const SafetensorsEntry& e : file.entries()) check_equal(file.load(e.name), f.expected.load(f.name + "/" + e.name));
}

void read_listed_npy(const Listed& f) {
  const Tensor got = read_npy(f.path);
  check_equal(got, f.expected.load(f.name));
}

void read_listed_npz(const Listed& f) {
  const auto arrays = read_npz(f.path);
  const auto members = f.entry["members"].GetArray();
  CHECK(arrays.size() == members.Size());
  for (const auto& member : members) {
    REQUIRE(arrays.count(member.GetString()) == 1);
    check_equal(arrays.at(member.GetString()), f.expected.load(f.name + "/" + member.GetString()));
  }
}

void check_roi(const ImagejRoi& roi, const rapidjson::Value& want) {
  const auto points = want["points"].GetArray();
  REQUIRE(roi.points.size() == points.Size());
  for (rapidjson::SizeType i = 0; i < points.Size(); ++i) {
    CHECK(roi.points[i][0] == points[i][0].GetFloat());
    CHECK(roi.points[i][1] == points[i][1].GetFloat());
  }
  CHECK(roi.name == want["roi_name"].GetString());
  CHECK(roi.subpixel == want["subpixel"].GetBool());
  for (rapidjson::SizeType i = 0; i < 4; ++i) CHECK(roi.bounds[i] == want["bounds"][i].GetInt());
}

void read_listed_roi(const Listed& f) {
  const ImagejRoi roi = read_roi(f.path);
  check_roi(roi, f.entry);
  const std::string bytes = encode_roi(roi);
  ImagejRoi again = decode_roi(std::as_bytes(std::span(bytes)), "written again");
  if (roi.subpixel) again.bounds = roi.bounds;  // of fractions ours are the floor, roifile's the nearest
  check_roi(again, f.entry);
}

// Its members are the listed .roi files.
void read_listed_roi_set(const Listed& f) {
  const auto members = f.entry["members"].GetArray();
  const auto rois = read_roi_set(f.path);
  REQUIRE(rois.size() == members.Size());
  for (rapidjson::SizeType i = 0; i < members.Size(); ++i) {
    const ImagejRoi alone = read_roi(f.path.parent_path() / members[i].GetString());
    CHECK(rois[i].points == alone.points);
    CHECK(rois[i].name == alone.name);
  }
}

void read_listed_events(const Listed& f) {
  const auto want = f.entry["events"].GetArray();
  const auto got = read_events(f.path);
  REQUIRE(got.size() == want.Size());
  std::string again;
  for (rapidjson::SizeType i = 0; i < want.Size(); ++i) {
    const auto& w = want[i];
    CHECK(got[i].wall_time == w["wall_time"].GetDouble());
    CHECK(got[i].step == (w.HasMember("step") ? w["step"].GetInt64() : 0));
    CHECK(got[i].file_version == (w.HasMember("file_version") ? w["file_version"].GetString() : ""));
    const rapidjson::SizeType scalars = w.HasMember("scalars") ? w["scalars"].Size() : 0;
    REQUIRE(got[i].scalars.size() == scalars);
    for (rapidjson::SizeType k = 0; k < scalars; ++k) {
      CHECK(got[i].scalars[k].first == w["scalars"][k][0].GetString());
      CHECK(got[i].scalars[k].second == w["scalars"][k][1].GetFloat());
    }
    again += encode_event(got[i]);
  }
  CHECK(again == read_file(f.path));  // our writer gives TensorBoard's bytes
  CHECK(fmt::format("{:08x}", crc32c("123456789")) == f.entry["crc32c_of_123456789"].GetString());
}

// sartorius.csv holds what sartorius_coco.json holds; the other good ones its first rows.
void read_listed_sartorius(const Listed& f) {
  Faults faults;
  const Dataset got = read_sartorius(f.path, faults);
  Faults coco_faults;
  const Dataset want = read_coco(f.path.parent_path() / "sartorius_coco.json", coco_faults).dataset;
  size_t rows = 0, all = 0;
  for (const Sample& sample : want.samples) all += sample.instances.size();
  for (size_t i = 0; i < got.samples.size(); ++i) {
    const Sample &a = got.samples[i], &b = want.samples.at(i);
    CHECK(a.id == b.id);
    CHECK(a.height == b.height);
    CHECK(a.width == b.width);
    REQUIRE(a.instances.size() <= b.instances.size());
    for (size_t k = 0; k < a.instances.size(); ++k, ++rows) {
      CHECK(a.instances[k].mask == b.instances[k].mask);
      CHECK(a.instances[k].box == b.instances[k].box);
      CHECK(got.categories.at(static_cast<size_t>(a.instances[k].category)) ==
            want.categories.at(static_cast<size_t>(b.instances[k].category)));
    }
  }
  CHECK(rows == (f.name == "sartorius.csv" ? all : 3));
}

// The other way round: the COCO file's masks are those of sartorius.csv, checked above; here what only it has.
void read_listed_coco(const Listed& f) {
  Faults faults;
  const CocoFile coco = read_coco(f.path, faults);
  rapidjson::Document json;
  json.Parse(read_file(f.path).c_str());
  REQUIRE(coco.dataset.samples.size() == json["images"].Size());
  for (rapidjson::SizeType i = 0; i < json["images"].Size(); ++i) {
    CHECK(coco.file_names[i] == json["images"][i]["file_name"].GetString());
    CHECK(coco.dataset.samples[i].source_id == std::to_string(json["images"][i]["id"].GetInt()));
  }
  std::map<int, size_t> next;
  for (const auto& a : json["annotations"].GetArray()) {
    const int image = a["image_id"].GetInt();
    const Instance& got = coco.dataset.samples.at(static_cast<size_t>(image - 1)).instances.at(next[image]++);
    CHECK(to_coco_string(got.mask) == a["segmentation"]["counts"].GetString());
    CHECK(area(got.mask) == a["area"].GetInt64());
    CHECK(got.category == a["category_id"].GetInt() - 1);
    for (rapidjson::SizeType k = 0; k < 4; ++k) CHECK(bounding_box(got.mask)[k] == a["bbox"][k].GetDouble());
  }
}

using Reader = void (*)(const Listed&);

Reader reader_of(const fs::path& path) {
  if (path.filename().string().find(".tfevents.") != std::string::npos) return read_listed_events;
  static const std::map<std::string, Reader> readers{
      {".png", read_listed_image},   {".tif", read_listed_image},     {".safetensors", read_listed_safetensors},
      {".npy", read_listed_npy},     {".npz", read_listed_npz},       {".roi", read_listed_roi},
      {".zip", read_listed_roi_set}, {".csv", read_listed_sartorius}, {".json", read_listed_coco}};
  const auto found = readers.find(path.extension().string());
  return found == readers.end() ? nullptr : found->second;
}

TEST_SUITE_BEGIN("parity");

TEST_CASE("parity: every listed file") {
  const fs::path folder = fixtures_folder() / "data";
  if (!fs::exists(folder / "files.json")) return;
  rapidjson::Document list;
  list.Parse(read_file(folder / "files.json").c_str());
  REQUIRE(list.IsArray());
  const SafetensorsFile expected(folder / "expected.safetensors");
  int files = 0;
  for (const auto& entry : list.GetArray()) {
    const Listed f{folder / entry["file"].GetString(), entry["file"].GetString(), entry, expected};
    INFO(f.name);
    const Reader read = reader_of(f.path);
    if (!read) {
      FAIL_CHECK("no reader for this kind of file");
      continue;
    }
    ++files;
    const size_t before = memory_stats().live_bytes;
    reset_peak_memory();
    std::string message;
    try {
      read(f);
    } catch (const DataError& e) {
      message = e.what();
    }
    CHECK(memory_stats().peak_bytes < before + most_memory);
    if (std::string(entry["expect"].GetString()) == "ok") {
      CHECK(message == "");
    } else {
      CHECK(message.find(f.path.string()) == 0);
      CHECK(message.size() > f.path.string().size() + 10);
    }
  }
  CHECK(files > 0);
}

TEST_SUITE_END();

}  // namespace
}  // namespace glia::tests
