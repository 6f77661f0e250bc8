#include "kernels/roi_align.h"

namespace glia::reference {
namespace {

// Calls f(r, p, q, pixel, weight): y[r, p, q, :] is the sum of weight * (the `pixel`th pixel of `map`, of all images).
template <class T, class F>
void for_each_share(const RoiAlign& op, size_t level, const Tensor& map, const Tensor& rois, const Tensor& levels, F f) {
  const auto places = detail::roi_places(rois, levels, map.dim(0));
  const int64_t height = map.dim(1), width = map.dim(2);
  for (size_t r = 0; r < places.size(); ++r) {
    if (places[r].level != int64_t(level)) continue;
    const T* roi = rois.data<T>() + 5 * r;
    const RoiAxis<T> rows(op, T(op.scales[level]), roi[2], roi[4], height),
        columns(op, T(op.scales[level]), roi[1], roi[3], width);
    const int64_t image = places[r].image * height * width;
    const T count = std::max(T(rows.samples) * T(columns.samples), T(1));
    for (int64_t p = 0; p < op.size; ++p)
      for (int64_t q = 0; q < op.size; ++q)
        for (int64_t i = 0; i < rows.samples; ++i)
          for (int64_t j = 0; j < columns.samples; ++j) {
            const T y = rows.position(p, i), x = columns.position(q, j);
            if (!rows.inside(y) || !columns.inside(x)) continue;
            T dy, dx;
            const int64_t y0 = rows.split(y, dy), x0 = columns.split(x, dx);
            const int64_t y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
            f(int64_t(r), p, q, image + y0 * width + x0, (1 - dy) * (1 - dx) / count);
            f(int64_t(r), p, q, image + y0 * width + x1, (1 - dy) * dx / count);
            f(int64_t(r), p, q, image + y1 * width + x0, dy * (1 - dx) / count);
            f(int64_t(r), p, q, image + y1 * width + x1, dy * dx / count);
          }
  }
}

}  // namespace

void roi_align(const RoiAlign& op, const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3, const Tensor& rois,
               const Tensor& levels, Tensor& y) {
  y.fill(0);
  const std::array<const Tensor*, 4> maps{&x0, &x1, &x2, &x3};
  detail::roi_places(rois, levels, x0.dim(0), maps);  // checks
  const int64_t channels = x0.dim(3);
  dispatch_floating(x0.dtype(), "roi_align", [&]<class T>(T) {
    for (size_t level = 0; level < maps.size(); ++level) {
      const Tensor& x = *maps[level];
      if (!x) continue;
      for_each_share<T>(op, level, x, rois, levels, [&](int64_t r, int64_t p, int64_t q, int64_t pixel, T weight) {
        T* to = y.data<T>() + ((r * op.size + p) * op.size + q) * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] += weight * x.data<T>()[pixel * channels + c];
      });
    }
  });
}

void roi_align_backward(const RoiAlign& op, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor& rois,
                        const Tensor& levels, const Tensor&, const Tensor& dy, Tensor* dx0, Tensor* dx1, Tensor* dx2, Tensor* dx3,
                        Tensor* drois, Tensor*) {
  if (drois) drois->fill(0);
  const std::array<Tensor*, 4> gradients{dx0, dx1, dx2, dx3};
  const int64_t channels = dy.dim(3);
  dispatch_floating(dy.dtype(), "roi_align_backward", [&]<class T>(T) {
    for (size_t level = 0; level < gradients.size(); ++level) {
      Tensor* dx = gradients[level];
      if (!dx) continue;
      dx->fill(0);
      for_each_share<T>(op, level, *dx, rois, levels, [&](int64_t r, int64_t p, int64_t q, int64_t pixel, T weight) {
        const T* from = dy.data<T>() + ((r * op.size + p) * op.size + q) * channels;
        for (int64_t c = 0; c < channels; ++c) dx->data<T>()[pixel * channels + c] += weight * from[c];
      });
    }
  });
}

void fpn_level(const FpnLevel& op, const Tensor& boxes, Tensor& level) {
  dispatch_floating(boxes.dtype(), "fpn_level", [&]<class T>(T) {
    for (int64_t i = 0; i < boxes.dim(0); ++i) {
      const T* box = boxes.data<T>() + 4 * i;
      level.data<int64_t>()[i] = op.level(box[0], box[1], box[2], box[3]);
    }
  });
}

}  // namespace glia::reference
