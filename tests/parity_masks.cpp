// Handlers of detectron2's mask ops: targets from bitmaps and polygons, polygons to masks, pasting.
#include <doctest/doctest.h>

#include <cmath>

#include "data/mask_patches.h"
#include "data/rle.h"
#include "tests/parity.h"

using namespace glia;

namespace {

using tests::ParityCase;

std::vector<std::vector<Polygon>> polygons_of(const ParityCase& c) {
  std::vector<std::vector<Polygon>> instances;
  for (const auto& instance : c.params()["polygons"].GetArray()) {
    instances.emplace_back();
    for (const auto& polygon : instance.GetArray()) {
      instances.back().emplace_back();
      for (const auto& v : polygon.GetArray()) instances.back().back().push_back(v.GetDouble());
    }
  }
  return instances;
}

// The fixture's note: compare bits where |soft - 0.5| > 1e-4.
void check_bits(const ParityCase& c, const uint8_t* got) {
  const Tensor bits = c.load("out/bits").cast(DType::uint8), soft = c.load("out/soft");
  int64_t wrong = 0, near = 0;
  for (int64_t i = 0; i < bits.size(); ++i) {
    const bool is_near = std::abs(double(soft.data<float>()[i]) - 0.5) <= 1e-4;
    near += is_near;
    wrong += !is_near && (got[i] != 0) != (bits.data<uint8_t>()[i] != 0);
  }
  CHECK(wrong == 0);
  CHECK(near < bits.size() / 20);
  if (c.params().HasMember("pixels_within_1e_4")) CHECK(near <= c.integer("pixels_within_1e_4", 0));
}

std::vector<uint8_t> at_least_half(const Tensor& soft) {
  std::vector<uint8_t> bits;
  for (const float v : soft.values<float>()) bits.push_back(v >= 0.5f);
  return bits;
}

}  // namespace

PARITY_OP(crop_and_resize_bitmask) {
  const MaskPatches patches = to_patches(masks_of_labels(c.input("labels").cast(DType::int32)));
  const Tensor soft = apply(MaskCrop{.size = c.integer("mask_size", 0)}, patches.bits, patches.windows, c.input("boxes"),
                            c.input("instance").cast(DType::int64));
  c.check("soft", soft);
  check_bits(c, at_least_half(soft).data());
}

PARITY_MODEL(crop_and_resize_polygon) {
  const Tensor instance = c.input("instance").cast(DType::int64);
  c.check("bits", crop_polygons(polygons_of(c), c.input("boxes"), instance, c.integer("mask_size", 0)));
}

PARITY_MODEL(polygons_to_mask) {
  std::vector<uint8_t> packed;  // 8 pixels to a byte, high bit first, over all instances
  size_t pixel = 0;
  for (const std::vector<Polygon>& polygons : polygons_of(c)) {
    const Tensor mask = decode_mask(rle_from_polygons(polygons, c.integer("height", 0), c.integer("width", 0)));
    for (const uint8_t v : mask.values<uint8_t>()) {
      if (pixel % 8 == 0) packed.push_back(0);
      packed.back() = uint8_t(packed.back() | v << (7 - pixel % 8));
      ++pixel;
    }
  }
  c.check("bits", Tensor::from<uint8_t>({int64_t(packed.size())}, packed));
}

PARITY_OP(paste_masks) {
  const int64_t height = c.integer("height", 0), width = c.integer("width", 0);
  const Tensor masks = c.input("masks"), boxes = c.input("boxes");
  const Tensor soft = apply(PasteMasks{height, width}, masks, boxes);
  c.check("soft", soft);
  check_bits(c, at_least_half(soft).data());
  std::vector<uint8_t> bits;
  for (const Rle& mask : paste_masks(masks, boxes, height, width, c.number("threshold", 0))) {
    const Tensor decoded = decode_mask(mask);
    bits.insert(bits.end(), decoded.data<uint8_t>(), decoded.data<uint8_t>() + decoded.size());
  }
  REQUIRE(int64_t(bits.size()) == soft.size());
  check_bits(c, bits.data());
}
