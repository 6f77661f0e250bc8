// Handlers of mask_rcnn_ops.safetensors' input pipeline: Pillow's resizing of images and masks, the shortest edge.
#include <doctest/doctest.h>

#include "data/detection_augment.h"
#include "data/rle.h"
#include "data/rle_resample.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

PARITY_MODEL(resize_pil) {
  const int64_t height = c.integer("height", 0), width = c.integer("width", 0);
  c.check("image", resize_detection_image(c.input("image"), height, width));
  // The mask is a label map: each of its instances goes the way of an instance's mask.
  const Tensor labels = c.input("mask").cast(DType::int32), resized = Tensor::zeros({height, width}, DType::int32);
  const std::vector<int64_t> rows = nearest_sources(labels.dim(0), height), columns = nearest_sources(labels.dim(1), width);
  std::vector<int32_t> values;
  std::vector<uint8_t> buffer;
  const std::vector<Rle> masks = masks_of_labels(labels, &values);
  for (size_t i = 0; i < masks.size(); ++i)
    paint_label(resample_mask(masks[i], rows, columns, false, buffer), values[i], resized);
  c.check("mask", resized);
}

PARITY_MODEL(resize_shortest_edge) {
  const Tensor sizes = c.input("sizes");
  Tensor resized({sizes.dim(0), 2}, DType::int64);
  for (int64_t i = 0; i < sizes.dim(0); ++i) {
    const int64_t* row = sizes.data<int64_t>() + 4 * i;
    const auto size = resize_shortest_edge(row[0], row[1], row[2], row[3]);
    std::copy(size.begin(), size.end(), resized.data<int64_t>() + 2 * i);
  }
  c.check("sizes", resized);
}

}  // namespace
}  // namespace glia::tests
