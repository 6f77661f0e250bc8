// Handlers of data_ops.safetensors: run lengths, COCO masks, label maps, image resizing, the Kaggle score.
#include <doctest/doctest.h>

#include <algorithm>

#include "data/contours.h"
#include "data/image_ops.h"
#include "data/image_resize.h"
#include "data/polygon.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "tests/parity.h"
#include "train/metrics.h"

using namespace glia;

namespace {

using tests::ParityCase;

std::vector<Rle> encode_all(const Tensor& masks) {  // (N, H, W)
  std::vector<Rle> list;
  for (int64_t i = 0; i < masks.dim(0); ++i)
    list.push_back(encode_mask(masks.slice(i, i + 1).reshape({masks.dim(1), masks.dim(2)})));
  return list;
}

std::vector<uint8_t> flags(const ParityCase& c, const char* key) {
  std::vector<uint8_t> list;
  for (int64_t v : c.integers(key)) list.push_back(uint8_t(v));
  return list;
}

Box box_of(const rapidjson::Value& v) { return {v[0].GetDouble(), v[1].GetDouble(), v[2].GetDouble(), v[3].GetDouble()}; }

Tensor labels_input(const ParityCase& c, const char* name) {
  const Tensor t = c.input(name);
  return t ? t.cast(DType::int32) : Tensor();
}

void check_facts(const ParityCase& c, const Rle& rle) {
  CHECK(area(rle) == c.integer("area", -1));
  CHECK(bounding_box(rle) == box_of(c.params()["bbox"]));
  CHECK(to_coco_string(rle) == c.text("string", "?"));
}

}  // namespace

PARITY_MODEL(kaggle_rle) {
  const PixelOrder order = c.text("order", "") == "row" ? PixelOrder::row : PixelOrder::column;
  const std::string text = c.text("text", "?");
  const Rle rle = rle_from_pairs(text, c.integer("height", 0), c.integer("width", 0), order);
  c.check("mask", decode_mask(rle));
  const Rle encoded = encode_mask(c.load("out/mask"));
  CHECK(encoded == rle);
  CHECK(to_pairs(encoded, order) == text);
}

PARITY_MODEL(coco_rle) {
  const auto size = c.integers("size");
  const std::vector<int64_t> counts = c.integers("counts");
  const Rle rle = rle_from_coco_string(c.text("string", "?"), size[0], size[1]);
  c.check("mask", decode_mask(rle));
  CHECK(rle_from_counts(counts, size[0], size[1]) == rle);
  CHECK(std::vector<int64_t>(rle.counts.begin(), rle.counts.end()) == counts);
  CHECK(encode_mask(c.load("out/mask")) == rle);
  check_facts(c, rle);
}

PARITY_MODEL(coco_polygon) {
  std::vector<Polygon> polygons;
  for (const auto& p : c.params()["polygons"].GetArray()) {
    polygons.emplace_back();
    for (const auto& v : p.GetArray()) polygons.back().push_back(v.GetDouble());
  }
  const Rle rle = rle_from_polygons(polygons, c.integer("height", 0), c.integer("width", 0));
  c.check("mask", decode_mask(rle));
  check_facts(c, rle);
}

PARITY_MODEL(coco_mask_iou) {
  c.check("iou", pairwise_iou(encode_all(c.input("a")), encode_all(c.input("b")), flags(c, "iscrowd")));
}

PARITY_MODEL(coco_box_iou) {
  const auto &a = c.params()["a"], &b = c.params()["b"];
  const std::vector<uint8_t> crowd = flags(c, "iscrowd");
  Tensor result({int64_t(a.Size()), int64_t(b.Size())}, DType::float64);
  for (unsigned i = 0; i < a.Size(); ++i)
    for (unsigned j = 0; j < b.Size(); ++j)
      result.data<double>()[i * b.Size() + j] = iou(box_of(a[i]), box_of(b[j]), crowd[j] != 0);
  c.check("iou", result);
}

PARITY_MODEL(coco_merge) {
  const MergeMode mode = c.flag("intersect", false) ? MergeMode::intersect : MergeMode::unite;
  c.check("mask", decode_mask(merge(encode_all(c.input("masks")), mode)));
}

PARITY_OP(connected_components) {
  const ConnectedComponents op{.connectivity = int(c.integer("connectivity", 8)), .by_value = c.flag("by_value", false)};
  c.check("labels", connected_components(c.input("mask"), op));
  c.check("labels", connected_components(c.input("mask").cast(DType::int32), op));
}

PARITY_OP(fill_holes) { c.check("mask", fill_holes(c.input("mask"), int(c.integer("background_connectivity", 4)))); }

PARITY_OP(remove_small_objects) {
  c.check("mask", remove_small_objects(c.input("mask"), c.integer("min_size", 0), int(c.integer("connectivity", 8))));
}

PARITY_OP(distance_transform) {
  c.check("squared", squared_distance(c.input("mask")));
  c.check("distance", distance_transform(c.input("mask")));
}

PARITY_MODEL(peak_local_max) {
  const PeakLocalMax op{.min_distance = int(c.integer("min_distance", 1)),
                        .exclude_border = c.flag("exclude_border", true),
                        .use_threshold = c.params().HasMember("threshold"),
                        .threshold = float(c.number("threshold", 0))};
  c.check("peaks", peak_local_max(c.input("x"), op, labels_input(c, "labels")));
}

PARITY_MODEL(watershed) {
  const FirstComeWatershed op{.connectivity = int(c.integer("connectivity", 4)), .line = c.flag("line", false)};
  c.check("labels", watershed(c.input("x"), labels_input(c, "markers"), c.input("mask"), op));
}

namespace {

using Points = std::vector<std::array<int32_t, 2>>;

// The same closed walk, from any start, in either direction.
bool same_walk(const Points& a, Points b) {
  if (a.size() != b.size()) return false;
  for (int direction = 0; direction < 2; ++direction) {
    for (size_t shift = 0; shift < b.size(); ++shift) {
      std::rotate(b.begin(), b.begin() + 1, b.end());
      if (a == b) return true;
    }
    std::reverse(b.begin(), b.end());
  }
  return false;
}

}  // namespace

PARITY_MODEL(contours) {
  const Tensor labels = labels_input(c, "labels");
  const ContourPoints kind = c.text("points", "") == "simple" ? ContourPoints::simple : ContourPoints::all;
  const std::vector<Contour> found = contours(labels, kind);
  const std::vector<LabelFacts> facts = label_facts(labels);
  const std::vector<Rle> masks = masks_of_labels(labels);
  const auto& want = c.params()["contours"];
  REQUIRE(found.size() == want.Size());
  for (unsigned i = 0; i < want.Size(); ++i) {
    const Contour& got = found[i];
    INFO("label ", got.label);
    CHECK(got.label == want[i]["label"].GetInt());
    Points points;
    for (const auto& p : want[i]["points"].GetArray()) points.push_back({p[0].GetInt(), p[1].GetInt()});
    CHECK(same_walk(got.points, points));
    CHECK(contour_area(got) == doctest::Approx(want[i]["area"].GetDouble()));
    CHECK(contour_length(got) == doctest::Approx(want[i]["length"].GetDouble()));
    CHECK(facts[size_t(got.label)].pixels == want[i]["pixels"].GetInt64());
    const std::vector<Contour> of_mask = contours(masks[i], kind);
    REQUIRE(of_mask.size() == 1);
    CHECK(of_mask[0].points == got.points);
  }
}

PARITY_MODEL(image_resize) {
  const ResizeMethod method = parse_resize_method(c.text("method", "?"));
  c.check("y", resize_image(c.input("x"), c.integer("height", 0), c.integer("width", 0), method));
}

PARITY_MODEL(image_blend) {
  const double w = c.number("weight", 1);
  c.check("y", c.text("kind", "") == "brightness" ? adjust_brightness(c.input("x"), w) : adjust_contrast(c.input("x"), w));
}

PARITY_MODEL(image_flip) { c.check("y", c.text("axis", "") == "x" ? flip_x(c.input("x")) : flip_y(c.input("x"))); }

namespace {

void check_score(const ParityCase& c, const KaggleScore& score) {
  const auto report = [&](const std::string& name, const std::array<MatchCounts, num_iou_thresholds>& counts, double mean) {
    Tensor table({num_iou_thresholds, 3}, DType::int32), precision({num_iou_thresholds});
    for (size_t i = 0; i < counts.size(); ++i) {
      const int64_t row[3] = {counts[i].tp, counts[i].fp, counts[i].fn};
      for (size_t j = 0; j < 3; ++j) table.data<int32_t>()[3 * i + j] = int32_t(row[j]);
      precision.data<float>()[i] = float(counts[i].precision());
    }
    c.check(name + "_counts", table);
    c.check(name + "_score", precision);
    c.check_number(name + "_mean", mean);
  };
  report("strict", score.strict, score.map_iou());
  report("community", score.compat, score.map_iou_compat());
}

}  // namespace

PARITY_MODEL(kaggle_score) {
  const Tensor truth = c.input("true"), prediction = c.input("pred");
  if (truth.rank() == 3) {
    check_score(c, kaggle_score(overlaps(encode_all(truth), encode_all(prediction))));
    return;
  }
  const Tensor t = truth.cast(DType::int32), p = prediction.cast(DType::int32);
  check_score(c, kaggle_score(t, p));
  check_score(c, kaggle_score(overlaps(masks_of_labels(t), masks_of_labels(p))));
}
