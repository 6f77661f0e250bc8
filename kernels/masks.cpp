#include "kernels/masks.h"

namespace glia {

namespace detail {

void check_windows(const Tensor& bits, const Tensor& windows, const char* op) {
  const auto* rows = reinterpret_cast<const MaskWindow*>(windows.data<int64_t>());
  for (int64_t i = 0; i < windows.dim(0); ++i) {
    const MaskWindow& w = rows[i];
    GLIA_CHECK(w.valid(bits.size()),
               "{}: window {} is {} x {} pixels (height x width) at y {}, x {} of an image of {} x {}, its first pixel {} of {}",
               op, i, w.height, w.width, w.y0, w.x0, w.image_height, w.image_width, w.first, bits.size());
  }
}

}  // namespace detail

namespace {

void check_boxes(const Tensor& boxes, int64_t count, DType dtype, const char* op) {
  GLIA_CHECK(boxes.rank() == 2 && boxes.dim(1) == 4 && boxes.dim(0) == count && boxes.dtype() == dtype,
             "{}: boxes {} of {}, want ({}, 4) of {}", op, boxes.shape(), name_of(boxes.dtype()), count, name_of(dtype));
}

}  // namespace

TensorSpec MaskCrop::infer(const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance) const {
  GLIA_CHECK(size > 0, "mask_crop: size {}, want 1 or more", size);
  GLIA_CHECK(bits.rank() == 1 && bits.dtype() == DType::uint8, "mask_crop: bits {} of {}, want (B) of uint8", bits.shape(),
             name_of(bits.dtype()));
  GLIA_CHECK(windows.rank() == 2 && windows.dim(1) == 7 && windows.dtype() == DType::int64,
             "mask_crop: windows {} of {}, want (G, 7) of int64", windows.shape(), name_of(windows.dtype()));
  GLIA_CHECK(instance.rank() == 1 && instance.dtype() == DType::int64, "mask_crop: instance {} of {}, want (R) of int64",
             instance.shape(), name_of(instance.dtype()));
  GLIA_CHECK(is_floating(boxes.dtype()), "mask_crop: boxes of {}, want float32", name_of(boxes.dtype()));
  check_boxes(boxes, instance.dim(0), boxes.dtype(), "mask_crop");
  return {{instance.dim(0), size, size}, boxes.dtype()};
}

TensorSpec PasteMasks::infer(const Tensor& masks, const Tensor& boxes) const {
  GLIA_CHECK(height >= 0 && width >= 0, "paste_masks: an image of {} x {}, want 0 or more pixels", height, width);
  GLIA_CHECK(masks.rank() == 3 && masks.dim(1) == masks.dim(2) && masks.dim(1) > 0 && is_floating(masks.dtype()),
             "paste_masks: masks {} of {}, want (N, M, M) of float32", masks.shape(), name_of(masks.dtype()));
  check_boxes(boxes, masks.dim(0), masks.dtype(), "paste_masks");
  return {{masks.dim(0), height, width}, masks.dtype()};
}

}  // namespace glia
