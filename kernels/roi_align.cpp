#include "kernels/roi_align.h"

namespace glia {

TensorSpec RoiAlign::infer(const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3, const Tensor& rois,
                           const Tensor& levels) const {
  GLIA_CHECK(size >= 1 && sampling >= 0, "roi_align: size {} and sampling {}, want at least 1 and 0", size, sampling);
  const std::array<const Tensor*, 4> maps{&x0, &x1, &x2, &x3};
  for (size_t i = 0; i < 4; ++i) {
    const Tensor& x = *maps[i];
    if (i > 0 && !x) continue;
    GLIA_CHECK(x && x.rank() == 4 && x.dim(1) >= 1 && x.dim(2) >= 1, "roi_align: map {} is {}, want (N, H, W, C) with pixels", i,
               x.shape());
    GLIA_CHECK(x.dim(0) == x0.dim(0) && x.dim(3) == x0.dim(3) && x.dtype() == x0.dtype(),
               "roi_align: map {} is {} {}, want images, channels and type of map 0, {} {}", i, name_of(x.dtype()), x.shape(),
               name_of(x0.dtype()), x0.shape());
    GLIA_CHECK(scales[i] > 0 && std::isfinite(scales[i]), "roi_align: the scale of map {} is {}, want a positive one", i,
               scales[i]);
  }
  GLIA_CHECK(rois.rank() == 2 && rois.dim(1) == 5 && rois.dtype() == x0.dtype(),
             "roi_align: rois are {} {}, want {} (R, 5): image, x1, y1, x2, y2", name_of(rois.dtype()), rois.shape(),
             name_of(x0.dtype()));
  GLIA_CHECK(!levels || (levels.dtype() == DType::int64 && levels.shape() == Shape{rois.dim(0)}),
             "roi_align: levels are {} {}, want int64 {}, one for each roi", name_of(levels.dtype()), levels.shape(),
             Shape{rois.dim(0)});
  return {{rois.dim(0), size, size, x0.dim(3)}, x0.dtype()};
}

TensorSpec FpnLevel::infer(const Tensor& boxes) const {
  GLIA_CHECK(boxes.rank() == 2 && boxes.dim(1) == 4 && is_floating(boxes.dtype()),
             "fpn_level: boxes are {} {}, want floats (N, 4)", name_of(boxes.dtype()), boxes.shape());
  GLIA_CHECK(min_level <= max_level && canonical_size > 0, "fpn_level: levels {} to {}, canonical size {}", min_level, max_level,
             canonical_size);
  return {{boxes.dim(0)}, DType::int64};
}

namespace detail {

std::vector<RoiPlace> roi_places(const Tensor& rois, const Tensor& levels, int64_t images,
                                 const std::array<const Tensor*, 4>& maps) {
  std::vector<RoiPlace> places(size_t(rois.dim(0)), RoiPlace{0, 0});
  dispatch_floating(rois.dtype(), "roi_align", [&]<class T>(T) {
    for (size_t r = 0; r < places.size(); ++r) {
      const T image = rois.data<T>()[5 * r];
      GLIA_CHECK(image >= 0 && image < T(images), "roi_align: roi {} is of image {}, want 0 to {}", r, image, images - 1);
      places[r].image = int64_t(image);
      if (levels) places[r].level = levels.data<int64_t>()[r];
      const int64_t level = places[r].level;
      GLIA_CHECK(level >= 0 && level < 4, "roi_align: roi {} is of level {}, want 0 to 3, which of the maps given", r, level);
      const Tensor* map = maps[size_t(level)];
      GLIA_CHECK(!map || *map, "roi_align: roi {} is of level {}, whose map was not given", r, level);
    }
  });
  return places;
}

}  // namespace detail
}  // namespace glia
