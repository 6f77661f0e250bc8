// COCO's AP and AR against pycocotools: the sets of fixtures/coco_ap, boxes and masks, <= 1e-9.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <list>
#include <map>

#include "data/polygon.h"
#include "data/rle.h"
#include "tests/paths.h"
#include "train/coco_eval.h"

using namespace glia;

namespace {

rapidjson::Document read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  rapidjson::Document d;
  d.Parse(text.c_str());
  REQUIRE_FALSE(d.HasParseError());
  return d;
}

Rle segmentation(const rapidjson::Value& v, int64_t h, int64_t w) {
  if (v.IsArray()) {
    std::vector<Polygon> polygons;
    for (const auto& p : v.GetArray()) {
      polygons.emplace_back();
      for (const auto& x : p.GetArray()) polygons.back().push_back(x.GetDouble());
    }
    return rle_from_polygons(polygons, h, w);
  }
  if (v["counts"].IsString()) return rle_from_coco_string(v["counts"].GetString(), h, w);
  std::vector<int64_t> counts;
  for (const auto& x : v["counts"].GetArray()) counts.push_back(x.GetInt64());
  return rle_from_counts(counts, h, w);
}

Box box_of(const rapidjson::Value& v) { return {v[0].GetDouble(), v[1].GetDouble(), v[2].GetDouble(), v[3].GetDouble()}; }

struct Set {
  std::list<Rle> masks;  // what the images point to
  std::vector<CocoImage> images;
  int categories = 0;
};

Set load(const std::filesystem::path& folder, const std::string& number, IouKind kind) {
  const rapidjson::Document gt = read_json(folder / ("gt_" + number + ".json")),
                            dt = read_json(folder / ("dt_" + number + ".json"));
  struct Place {
    size_t index;
    int64_t height, width;
  };
  std::map<int64_t, Place> places;
  Set set;
  for (const auto& i : gt["images"].GetArray()) {
    places[i["id"].GetInt64()] = {set.images.size(), i["height"].GetInt64(), i["width"].GetInt64()};
    set.images.emplace_back();
  }
  set.categories = int(gt["categories"].Size());
  for (const auto& a : gt["annotations"].GetArray()) {
    const Place& at = places.at(a["image_id"].GetInt64());
    set.masks.push_back(segmentation(a["segmentation"], at.height, at.width));
    set.images[at.index].truth.push_back({&set.masks.back(), box_of(a["bbox"]), a["category_id"].GetInt() - 1,
                                          a["iscrowd"].GetInt() != 0, a["area"].GetDouble()});
  }
  for (const auto& d : dt.GetArray()) {
    const Place& at = places.at(d["image_id"].GetInt64());
    set.masks.push_back(segmentation(d["segmentation"], at.height, at.width));
    CocoDetection x{&set.masks.back(), box_of(d["bbox"]), d["category_id"].GetInt() - 1, d["score"].GetDouble(), 0};
    x.area = kind == IouKind::segm ? double(area(*x.mask)) : x.box[2] * x.box[3];
    set.images[at.index].detections.push_back(x);
  }
  return set;
}

}  // namespace

TEST_SUITE_BEGIN("parity");

TEST_CASE("parity: COCO AP and AR of the sets in coco_ap") {
  const std::filesystem::path folder = tests::fixtures_folder() / "coco_ap";
  if (!std::filesystem::exists(folder / "expected.json")) return;
  const rapidjson::Document expected = read_json(folder / "expected.json");
  int sets = 0;
  for (const auto& entry : expected.GetObject()) {
    const std::string number = entry.name.GetString();
    std::array<int, 3> limits{};
    for (unsigned i = 0; i < 3; ++i) limits[i] = entry.value["max_dets"][i].GetInt();
    for (const auto& [kind, name] : {std::pair{IouKind::bbox, "bbox"}, {IouKind::segm, "segm"}}) {
      INFO("set ", number, " ", name);
      const Set set = load(folder, number, kind);
      const CocoSummary s = CocoEvaluator(set.images, set.categories, kind, {.max_detections = limits}).summary();
      const double got[12] = {s.ap, s.ap50, s.ap75, s.aps, s.apm, s.apl, s.ar1, s.ar10, s.ar100, s.ars, s.arm, s.arl};
      for (unsigned i = 0; i < 12; ++i) {
        INFO("number ", i);
        CHECK(std::abs(got[i] - entry.value[name][i].GetDouble()) <= 1e-9);
      }
    }
    ++sets;
  }
  CHECK(sets > 0);
}

TEST_SUITE_END();
