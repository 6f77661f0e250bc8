// Detection's augmentation.
#include "data/detection_augment.h"

#include <algorithm>
#include <cmath>

#include "data/image_ops.h"
#include "data/image_resize.h"
#include "data/rle.h"
#include "data/rle_resample.h"
#include "tensor/random.h"

namespace glia {
namespace {

constexpr uint64_t detection_key = 0x646574656374ull;  // keeps these draws apart from the loader's order under the same seed
constexpr int max_windows = 10;                        // drawn for one image

bool has_window(const DetectionAugment& options) { return options.crop[0] > 0; }

// Source rows of output rows and source columns of output columns; where the draw transposes, the other way round.
struct Sources {
  std::vector<int64_t> down, across;
};

Sources sources_of(const DetectionDraw& d) {
  const auto axis = [](int64_t first, int64_t in, int64_t out, bool flipped) {
    std::vector<int64_t> source = nearest_sources(in, out);
    for (int64_t& s : source) s += first;
    if (flipped) std::reverse(source.begin(), source.end());
    return source;
  };
  if (d.transpose) return {axis(d.left, d.window_width, d.height, d.vflip), axis(d.top, d.window_height, d.width, d.hflip)};
  return {axis(d.top, d.window_height, d.height, d.vflip), axis(d.left, d.window_width, d.width, d.hflip)};
}

// The source's box through the draw: x, y, width, height, of corners in float32.
Box moved(const Box& box, const DetectionDraw& d) {
  const auto corner = [](double at, double size) {
    return static_cast<double>(static_cast<float>(at) + static_cast<float>(size));
  };
  std::array<double, 2> x{static_cast<float>(box[0]), corner(box[0], box[2])},
      y{static_cast<float>(box[1]), corner(box[1], box[3])};
  int64_t width = d.window_width, height = d.window_height;
  for (double& v : x) v -= static_cast<double>(d.left);
  for (double& v : y) v -= static_cast<double>(d.top);
  if (d.transpose) std::swap(x, y), std::swap(width, height);
  const auto axis = [](std::array<double, 2> v, int64_t in, int64_t out, bool flipped) {
    const double scale = static_cast<double>(out) / static_cast<double>(in), limit = static_cast<double>(out);
    for (double& p : v) {
      p *= scale;
      if (flipped) p = limit - p;
    }
    if (v[0] > v[1]) std::swap(v[0], v[1]);
    for (double& p : v) p = static_cast<double>(static_cast<float>(std::clamp(p, 0.0, limit)));
    return v;
  };
  x = axis(x, width, d.width, d.hflip), y = axis(y, height, d.height, d.vflip);
  return {x[0], y[0], x[1] - x[0], y[1] - y[0]};
}

}  // namespace

void check(const DetectionAugment& o) {
  const auto need = [](bool fine, const char* key, auto value, const char* wanted) {
    if (!fine) throw UsageError("augment.{}: {} is out of range, want {}", key, value, wanted);
  };
  for (const int64_t edge : o.short_edge) need(edge >= 0 && edge <= 32768, "short_edge", edge, "pixels from 1 to 32768, or 0");
  if (o.short_edge_range && (o.short_edge.size() != 2 || o.short_edge[0] > o.short_edge[1] || o.short_edge[0] < 1))
    throw UsageError("augment.short_edge: {} values, want two for a range, the smaller first, both from 1", o.short_edge.size());
  need(o.max_size >= 0 && o.max_size <= 65536, "max_size", o.max_size, "pixels from 1 to 65536, or 0 for no limit");
  const auto [h, w] = o.crop;
  need(h >= 0 && w >= 0 && (h == 0) == (w == 0), "crop", std::min(h, w), "[height, width], both positive");
  need(o.brightness >= 0 && o.brightness <= 1, "brightness", o.brightness, "0 to 1 (0.2 multiplies by 0.8 to 1.2)");
  need(o.contrast >= 0 && o.contrast <= 1, "contrast", o.contrast, "0 to 1 (0.2 multiplies by 0.8 to 1.2)");
  need(o.min_area >= 0, "min_area", o.min_area, "pixels, 0 or more");
}

std::array<int64_t, 2> resize_shortest_edge(int64_t height, int64_t width, int64_t short_edge, int64_t max_size) {
  GLIA_CHECK(height > 0 && width > 0 && short_edge >= 0 && max_size >= 0, "resize_shortest_edge: {} x {} to {}, at most {}",
             height, width, short_edge, max_size);
  if (short_edge == 0) return {height, width};
  const double h = static_cast<double>(height), w = static_cast<double>(width), edge = static_cast<double>(short_edge);
  const double scale = edge / std::min(h, w), limit = static_cast<double>(max_size);
  double new_height = height < width ? edge : scale * h, new_width = height < width ? scale * w : edge;
  if (const double longer = std::max(new_height, new_width); max_size > 0 && longer > limit) {
    new_height *= limit / longer;
    new_width *= limit / longer;
  }
  return {std::max<int64_t>(1, static_cast<int64_t>(new_height + .5)),
          std::max<int64_t>(1, static_cast<int64_t>(new_width + .5))};
}

Tensor resize_detection_image(const Tensor& image, int64_t height, int64_t width) {
  if (image.dtype() == DType::uint8) return resize_image(image, height, width, ResizeMethod::pillow_bilinear);
  return resize_image(image.cast(DType::float32), height, width, ResizeMethod::keras_bilinear);
}

DetectionDraw draw_detection(const DetectionAugment& o, const std::vector<Instance>& instances, int64_t height, int64_t width,
                             uint64_t seed, int64_t epoch, int64_t index) {
  const Philox philox(seed ^ detection_key, (static_cast<uint64_t>(epoch) << 32) ^ static_cast<uint64_t>(index));
  uint64_t counter = 0;  // one number per key whether used or not: switching one key off leaves the others' draws alone
  const auto uniform = [&](double low, double high) { return philox.uniform(counter++, low, high); };
  DetectionDraw d{.source_height = height, .source_width = width, .window_height = height, .window_width = width};
  d.hflip = uniform(0, 1) < 0.5 && o.hflip;
  d.vflip = uniform(0, 1) < 0.5 && o.vflip;
  d.transpose = uniform(0, 1) < 0.5 && o.transpose;
  const double edge = uniform(0, 1);
  d.brightness = 1 + uniform(-1, 1) * o.brightness;
  d.contrast = 1 + uniform(-1, 1) * o.contrast;

  if (has_window(o)) {
    d.window_height = std::min(height, o.crop[d.transpose ? 1 : 0]);
    d.window_width = std::min(width, o.crop[d.transpose ? 0 : 1]);
    const auto place = [&](int64_t room) { return static_cast<int64_t>(uniform(0, 1) * static_cast<double>(room + 1)); };
    for (int i = 0; i < max_windows; ++i) {
      d.top = place(height - d.window_height), d.left = place(width - d.window_width);
      if (!o.redraw_empty_crops || std::any_of(instances.begin(), instances.end(), [&](const Instance& n) {
            return reaches_into(n.mask, d.top, d.left, d.window_height, d.window_width);
          }))
        break;
    }
  }
  int64_t short_edge = 0;
  if (o.short_edge_range) {
    short_edge = o.short_edge[0] + static_cast<int64_t>(edge * static_cast<double>(o.short_edge[1] - o.short_edge[0] + 1));
  } else if (!o.short_edge.empty()) {
    short_edge = o.short_edge[static_cast<size_t>(edge * static_cast<double>(o.short_edge.size()))];
  }
  const auto size = d.transpose ? resize_shortest_edge(d.window_width, d.window_height, short_edge, o.max_size)
                                : resize_shortest_edge(d.window_height, d.window_width, short_edge, o.max_size);
  d.height = size[0], d.width = size[1];
  return d;
}

Tensor augment_detection_image(const Tensor& image, const DetectionDraw& d) {
  GLIA_CHECK(image.rank() == 3 || image.rank() == 2, "augment_detection_image: image is {}, want (H, W, C) or (H, W)",
             image.shape());
  GLIA_CHECK(image.dim(0) == d.source_height && image.dim(1) == d.source_width && image.size() > 0,
             "augment_detection_image: image is {}, but the draw was made for {} x {}", image.shape(), d.source_height,
             d.source_width);
  Tensor x = image;
  if (d.window_height != d.source_height || d.window_width != d.source_width)
    x = crop(x, d.top, d.left, d.window_height, d.window_width);
  if (d.transpose) x = flip_y(rotate_90(x));
  if (d.height != x.dim(0) || d.width != x.dim(1)) x = resize_detection_image(x, d.height, d.width);
  if (d.hflip) x = flip_x(x);
  if (d.vflip) x = flip_y(x);
  if (d.brightness == 1 && d.contrast == 1) return x;
  if (x.dtype() != DType::uint8) x = x.cast(DType::float32);
  if (d.brightness != 1) x = adjust_brightness(x, d.brightness);
  return d.contrast == 1 ? x : adjust_contrast(x, d.contrast);
}

std::vector<Instance> augment_instances(const std::vector<Instance>& instances, const DetectionDraw& d, bool tight_boxes,
                                        int64_t min_area) {
  const Sources sources = sources_of(d);
  const bool unchanged = d.height == d.source_height && d.width == d.source_width && !d.transpose && !d.hflip && !d.vflip &&
                         d.window_height == d.source_height && d.window_width == d.source_width;
  std::vector<uint8_t> buffer;
  std::vector<Instance> result;
  for (const Instance& instance : instances) {
    const Rle& mask = instance.mask;
    GLIA_CHECK(mask.height == d.source_height && mask.width == d.source_width,
               "augment_instances: a mask is {} x {}, but the draw was made for {} x {}", mask.height, mask.width,
               d.source_height, d.source_width);
    Instance moved_instance = instance;
    if (!unchanged) moved_instance.mask = resample_mask(mask, sources.down, sources.across, d.transpose, buffer);
    moved_instance.area = -1;  // the source's is of another size
    moved_instance.box = tight_boxes ? bounding_box(moved_instance.mask) : moved(instance.box, d);
    const Box& box = moved_instance.box;
    if (box[2] <= 1e-5 || box[3] <= 1e-5 || area(moved_instance.mask) < std::max<int64_t>(1, min_area)) continue;
    result.push_back(std::move(moved_instance));
  }
  return result;
}

void augment_detection(Tensor& image, std::vector<Instance>& instances, const DetectionAugment& options, uint64_t seed,
                       int64_t epoch, int64_t index) {
  const DetectionDraw draw = draw_detection(options, instances, image.dim(0), image.dim(1), seed, epoch, index);
  image = augment_detection_image(image, draw);
  instances = augment_instances(instances, draw, has_window(options), options.min_area);
}

Tensor corner_boxes(const std::vector<Instance>& instances) {
  Tensor boxes({static_cast<int64_t>(instances.size()), 4});
  float* to = boxes.data<float>();
  for (const Instance& instance : instances) {
    const auto [x, y, width, height] = instance.box;
    for (const double v : {x, y, x + width, y + height}) *to++ = static_cast<float>(v);
  }
  return boxes;
}

}  // namespace glia
