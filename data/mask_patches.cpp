#include "data/mask_patches.h"

#include "data/rle.h"
#include "data/rle_runs.h"
#include "kernels/index.h"
#include "kernels/mask_runs.h"
#include "kernels/paste_axis.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

using detail::MaskWindow;

struct PasteScratch {
  PasteAxis y, x;
  std::vector<float> columns;  // the map's, at each of the box's rows; before the first and behind the last one zeros
  std::vector<uint8_t> inside;
};

// Column by column, as an Rle is. Interpolates along y first, with PasteMasks' arithmetic.
Rle paste(const float* map, int64_t m, const float* box, int64_t height, int64_t width, float threshold, PasteScratch& scratch) {
  auto& [y, x, columns, inside] = scratch;
  x.set(box[0], box[2], m, width);
  y.set(box[1], box[3], m, height);
  Rle rle{height, width, {}};
  RunWriter writer(rle.counts);
  const int64_t rows = y.size();
  columns.assign(size_t((m + 2) * rows), 0.0f);
  inside.resize(size_t(rows));
  for (int64_t i = 0; i < rows && x.size() > 0; ++i) {
    const int64_t before = y.before[size_t(i)];
    const float share = y.share[size_t(i)];
    for (int64_t k = 0; k < m; ++k)
      columns[size_t((k + 1) * rows + i)] =
          (before >= 0 ? (1 - share) * map[before * m + k] : 0) + (before + 1 < m ? share * map[(before + 1) * m + k] : 0);
  }
  for (int64_t j = 0; j < x.size() && rows > 0; ++j) {
    const float* const left = columns.data() + (x.before[size_t(j)] + 1) * rows;
    const float* const right = left + rows;
    const float share = x.share[size_t(j)];
    uint8_t* const to = inside.data();
    for (int64_t i = 0; i < rows; ++i) to[i] = (1 - share) * left[i] + share * right[i] >= threshold;
    const int64_t offset = (x.begin + j) * height + y.begin;
    for_each_nonzero_run(inside.data(), rows, [&](int64_t begin, int64_t end) { writer.add(offset + begin, offset + end); });
  }
  writer.finish(height * width);
  return rle;
}

}  // namespace

MaskPatches to_patches(std::span<const Rle> masks) {
  MaskPatches patches{{}, Tensor({int64_t(masks.size()), 7}, DType::int64)};
  auto* const windows = reinterpret_cast<MaskWindow*>(patches.windows.data<int64_t>());
  int64_t pixels = 0;
  for (size_t i = 0; i < masks.size(); ++i) {
    const Box box = bounding_box(masks[i]);
    windows[i] = {pixels, int64_t(box[1]), int64_t(box[0]), int64_t(box[3]), int64_t(box[2]), masks[i].height, masks[i].width};
    pixels += windows[i].height * windows[i].width;
  }
  patches.bits = Tensor::zeros({pixels}, DType::uint8);
  for (size_t i = 0; i < masks.size(); ++i) {
    const MaskWindow& w = windows[i];
    uint8_t* const to = patches.bits.data<uint8_t>() + w.first;
    for_each_column_run(masks[i], [&](int64_t x, int64_t y, int64_t end) {
      for (; y < end; ++y) to[(y - w.y0) * w.width + x - w.x0] = 1;
    });
  }
  return patches;
}

std::vector<Rle> to_rles(const MaskPatches& patches) {
  detail::check_windows(patches.bits, patches.windows, "to_rles");
  const auto* const windows = reinterpret_cast<const MaskWindow*>(patches.windows.data<int64_t>());
  std::vector<Rle> masks;
  std::vector<uint8_t> column;
  for (int64_t i = 0; i < patches.count(); ++i) {
    const MaskWindow& w = windows[i];
    Rle rle{w.image_height, w.image_width, {}};
    RunWriter writer(rle.counts);
    column.resize(size_t(w.height));
    for (int64_t x = 0; x < w.width; ++x) {
      for (int64_t y = 0; y < w.height; ++y) column[size_t(y)] = patches.bits.data<uint8_t>()[w.first + y * w.width + x];
      const int64_t offset = (w.x0 + x) * w.image_height + w.y0;
      for_each_nonzero_run(column.data(), w.height,
                           [&](int64_t begin, int64_t end) { writer.add(offset + begin, offset + end); });
    }
    writer.finish(w.image_height * w.image_width);
    masks.push_back(std::move(rle));
  }
  return masks;
}

std::vector<Rle> paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold) {
  PasteMasks{height, width}.infer(masks, boxes);  // checks the shapes
  GLIA_CHECK(threshold > 0, "paste_masks: threshold {}, want more than 0 (all of the image is 0 or more)", threshold);
  const int64_t n = masks.dim(0), m = masks.dim(1);
  const float* map = masks.data<float>();
  const float* box = boxes.data<float>();
  std::vector<Rle> pasted(static_cast<size_t>(n));
  parallel_for(n, 16, [&](int64_t begin, int64_t end) {
    PasteScratch scratch;
    for (int64_t i = begin; i < end; ++i)
      pasted[size_t(i)] = paste(map + i * m * m, m, box + 4 * i, height, width, float(threshold), scratch);
  });
  return pasted;
}

Tensor crop_polygons(std::span<const std::vector<Polygon>> instances, const Tensor& boxes, const Tensor& instance, int64_t size) {
  GLIA_CHECK(size > 0, "crop_polygons: size {}, want 1 or more", size);
  GLIA_CHECK(boxes.rank() == 2 && boxes.dim(1) == 4 && instance.rank() == 1 && instance.dim(0) == boxes.dim(0),
             "crop_polygons: boxes {} and instance {}, want (R, 4) and (R)", boxes.shape(), instance.shape());
  detail::check_indices(instance, int64_t(instances.size()), "crop_polygons");
  const Tensor bits({boxes.dim(0), size, size}, DType::uint8);
  // NumPy 2 divides by a float32 size in float32, and by the least size, a Python number, in double.
  const auto factor = [&](float length) { return length < 0.1f ? double(size) / 0.1 : double(float(size) / length); };
  for (int64_t r = 0; r < boxes.dim(0); ++r) {
    const float* box = boxes.data<float>() + 4 * r;
    const double x = box[0], y = box[1], fx = factor(box[2] - box[0]), fy = factor(box[3] - box[1]);
    std::vector<Polygon> moved = instances[size_t(instance.data<int64_t>()[r])];
    for (Polygon& p : moved)
      for (size_t i = 0; i < p.size(); ++i) p[i] = i % 2 ? (p[i] - y) * fy : (p[i] - x) * fx;
    bits.slice(r, r + 1).reshape({size, size}).copy_from(decode_mask(rle_from_polygons(moved, size, size)));
  }
  return bits;
}

}  // namespace glia
