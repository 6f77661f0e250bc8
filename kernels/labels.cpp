// The checks of labels.h, and what follows from components and distances.
#include "kernels/labels.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace glia {
namespace {

void check_mask(const Tensor& mask, const char* what) {
  GLIA_CHECK(mask.rank() == 2 && (mask.dtype() == DType::uint8 || mask.dtype() == DType::boolean),
             "{}: a mask {} of {}, want (H, W) of uint8 or bool", what, mask.shape(), name_of(mask.dtype()));
}

void check_labels(const Tensor& labels, const char* what) {
  GLIA_CHECK(labels.rank() == 2 && labels.dtype() == DType::int32, "{}: labels {} of {}, want (H, W) of int32", what,
             labels.shape(), name_of(labels.dtype()));
}

template <class Op>
Tensor run(const Op& op, const Tensor& x) {
  const MemoryScope scope(Op::forward.name);
  const TensorSpec spec = op.infer(x);
  Tensor y(spec.shape, spec.dtype);
  Op::forward.pick(x.device(), x.dtype())(op, x, y);
  return y;
}

}  // namespace

TensorSpec ConnectedComponents::infer(const Tensor& x) const {
  GLIA_CHECK(x.rank() == 2 && (x.dtype() == DType::uint8 || x.dtype() == DType::boolean || x.dtype() == DType::int32),
             "connected_components: x {} of {}, want (H, W) of uint8, bool or int32", x.shape(), name_of(x.dtype()));
  GLIA_CHECK(connectivity == 4 || connectivity == 8, "connected_components: connectivity {}, want 4 or 8", connectivity);
  GLIA_CHECK(x.size() <= std::numeric_limits<int32_t>::max(), "connected_components: {} pixels, want fewer than 2^31", x.size());
  return {x.shape(), DType::int32};
}

TensorSpec SquaredDistance::infer(const Tensor& mask) const {
  check_mask(mask, "squared_distance");
  GLIA_CHECK(mask.dim(0) + mask.dim(1) <= 46340, "squared_distance: a mask {}, want H + W up to 46340", mask.shape());
  return {mask.shape(), DType::int32};
}

TensorSpec Watershed::infer(const Tensor& x, const Tensor& markers, const Tensor& mask) const {
  GLIA_CHECK(x.rank() == 2 && (x.dtype() == DType::float32 || x.dtype() == DType::float64),
             "watershed: x {} of {}, want (H, W) of float32", x.shape(), name_of(x.dtype()));
  GLIA_CHECK(same_shape(x, markers) && markers.dtype() == DType::int32, "watershed: markers {} of {} for x {}, want int32",
             markers.shape(), name_of(markers.dtype()), x.shape());
  GLIA_CHECK(!mask || (same_shape(x, mask) && size_of(mask.dtype()) == 1),
             "watershed: mask {} of {} for x {}, want uint8 or bool", mask.shape(), name_of(mask.dtype()), x.shape());
  GLIA_CHECK(connectivity == 4 || connectivity == 8, "watershed: connectivity {}, want 4 or 8", connectivity);
  GLIA_CHECK(x.size() <= int64_t(1) << 30, "watershed: {} pixels, want up to 2^30", x.size());
  return {x.shape(), DType::int32};
}

Tensor connected_components(const Tensor& x, const ConnectedComponents& op) { return run(op, x); }
Tensor squared_distance(const Tensor& mask) { return run(SquaredDistance{}, mask); }

Tensor distance_transform(const Tensor& mask) {
  const Tensor squared = squared_distance(mask);
  Tensor distance(mask.shape());
  for (int64_t i = 0; i < mask.size(); ++i) distance.data<float>()[i] = std::sqrt(float(squared.data<int32_t>()[i]));
  return distance;
}

std::vector<LabelFacts> label_facts(const Tensor& labels) {
  check_labels(labels, "label_facts");
  const int64_t h = labels.dim(0), w = labels.dim(1);
  const int32_t* map = labels.data<int32_t>();
  constexpr int32_t largest = 1 << 26;
  std::vector<LabelFacts> facts(1);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w;) {
      const int32_t label = map[y * w + x];
      const int64_t begin = x;
      while (x < w && map[y * w + x] == label) ++x;
      if (label < 0 || label > largest)
        throw DataError("label map: the value {} at row {}, column {}, want 0 to {}", label, y, begin, largest);
      if (size_t(label) >= facts.size()) facts.resize(size_t(label) + 1);
      LabelFacts& f = facts[size_t(label)];
      if (f.pixels == 0) {
        f.y0 = y;
        f.x0 = begin;
      }
      const int64_t n = x - begin;
      f.x0 = std::min(f.x0, begin);
      f.x1 = std::max(f.x1, x);
      f.y1 = y + 1;
      f.pixels += n;
      f.y += double(n * y);
      f.x += double(n) * double(begin + x - 1) / 2;
    }
  }
  for (LabelFacts& f : facts) {
    if (f.pixels == 0) continue;
    f.y /= double(f.pixels);
    f.x /= double(f.pixels);
  }
  return facts;
}

Tensor fill_holes(const Tensor& mask, int background_connectivity) {
  check_mask(mask, "fill_holes");
  const int64_t h = mask.dim(0), w = mask.dim(1);
  const auto* inside = reinterpret_cast<const uint8_t*>(mask.raw());
  Tensor outside(mask.shape(), DType::uint8);
  for (int64_t i = 0; i < mask.size(); ++i) outside.data<uint8_t>()[i] = inside[i] == 0;
  const Tensor regions = connected_components(outside, {.connectivity = background_connectivity});
  const int32_t* region = regions.data<int32_t>();
  std::vector<uint8_t> open(size_t(mask.size()) + 1);  // by region
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; x += (y == 0 || y == h - 1 || w == 1) ? 1 : w - 1) open[size_t(region[y * w + x])] = 1;
  open[0] = 0;
  for (int64_t i = 0; i < mask.size(); ++i) outside.data<uint8_t>()[i] = !open[size_t(region[i])];
  return outside;
}

Tensor fill_label_holes(const Tensor& labels) {
  check_labels(labels, "fill_label_holes");
  const int64_t h = labels.dim(0), w = labels.dim(1);
  const int32_t* map = labels.data<int32_t>();
  Tensor outside(labels.shape(), DType::uint8);
  for (int64_t i = 0; i < labels.size(); ++i) outside.data<uint8_t>()[i] = map[i] == 0;
  const Tensor regions = connected_components(outside, {.connectivity = 4});
  const int32_t* region = regions.data<int32_t>();
  constexpr int32_t unknown = -1, open = 0;
  std::vector<int32_t> owner(size_t(labels.size()) + 1, unknown);  // by region: the only label around it
  const auto touch = [&](int64_t p, int32_t label) {
    int32_t& o = owner[size_t(region[p])];
    o = o == unknown || o == label ? label : open;
  };
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      const int64_t p = y * w + x;
      if (map[p]) continue;
      if (y == 0 || x == 0 || y == h - 1 || x == w - 1) {
        touch(p, open);
        continue;
      }
      for (int64_t q : {p - w, p - 1, p + 1, p + w})
        if (map[q]) touch(p, map[q]);
    }
  }
  Tensor filled = labels.clone();
  for (int64_t i = 0; i < labels.size(); ++i)
    if (!map[i]) filled.data<int32_t>()[i] = owner[size_t(region[i])];
  return filled;
}

Tensor remove_small_objects(const Tensor& mask, int64_t min_size, int connectivity) {
  check_mask(mask, "remove_small_objects");
  const Tensor kept = remove_small_labels(connected_components(mask, {.connectivity = connectivity}), min_size);
  Tensor result(mask.shape(), DType::uint8);
  for (int64_t i = 0; i < mask.size(); ++i) result.data<uint8_t>()[i] = kept.data<int32_t>()[i] != 0;
  return result;
}

Tensor remove_small_labels(const Tensor& labels, int64_t min_size) {
  const std::vector<LabelFacts> facts = label_facts(labels);
  Tensor result(labels.shape(), DType::int32);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t label = labels.data<int32_t>()[i];
    result.data<int32_t>()[i] = facts[size_t(label)].pixels >= min_size ? label : 0;
  }
  return result;
}

Tensor relabel(const Tensor& labels, int64_t* count) {
  check_labels(labels, "relabel");
  std::vector<int32_t> seen;  // at first the ends of all stretches, then each label once, ascending
  int32_t last = 0;
  for (const int32_t v : labels.values<int32_t>()) {
    if (v != last && v != 0) seen.push_back(v);
    last = v;
  }
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  Tensor result(labels.shape(), DType::int32);
  int32_t from = 0, to = 0;
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t v = labels.data<int32_t>()[i];
    if (v != from) {
      from = v;
      to = v == 0 ? 0 : int32_t(std::lower_bound(seen.begin(), seen.end(), v) - seen.begin()) + 1;
    }
    result.data<int32_t>()[i] = to;
  }
  if (count) *count = int64_t(seen.size());
  return result;
}

Tensor grow_labels(const Tensor& labels, int pixels, const Tensor& mask) {
  check_labels(labels, "grow_labels");
  if (mask) {
    check_mask(mask, "grow_labels");
    GLIA_CHECK(same_shape(mask, labels), "grow_labels: mask {} for labels {}", mask.shape(), labels.shape());
  }
  const int64_t h = labels.dim(0), w = labels.dim(1);
  const auto* inside = mask ? reinterpret_cast<const uint8_t*>(mask.raw()) : nullptr;
  Tensor result = labels.clone();
  int32_t* map = result.data<int32_t>();
  const auto for_each_free_neighbour = [&](int64_t p, bool corners, auto&& f) {
    const int64_t y = p / w, x = p - y * w;
    for (int64_t dy = -1; dy <= 1; ++dy) {
      for (int64_t dx = -1; dx <= 1; ++dx) {
        const int64_t qy = y + dy, qx = x + dx, q = qy * w + qx;
        if ((!corners && dy && dx) || qy < 0 || qy >= h || qx < 0 || qx >= w || map[q] || (inside && !inside[q])) continue;
        f(q);
      }
    }
  };
  std::vector<int64_t> front;  // labelled pixels that may have free neighbours
  for (int64_t i = 0; i < labels.size(); ++i) {
    bool open = false;
    if (map[i]) for_each_free_neighbour(i, true, [&](int64_t) { open = true; });
    if (open) front.push_back(i);
  }
  struct Claim {
    int64_t pixel;
    int32_t label;
  };
  std::vector<Claim> claims;
  for (int step = 0; step < pixels && !front.empty(); ++step) {
    const bool corners = step % 2 == 1;
    claims.clear();
    for (const int64_t p : front) for_each_free_neighbour(p, corners, [&](int64_t q) { claims.push_back({q, map[p]}); });
    if (corners) front.clear();  // after a step by sides only, corners are left: their pixels stay in the front
    for (const Claim& c : claims) {
      if (!map[c.pixel]) {
        front.push_back(c.pixel);
        map[c.pixel] = c.label;
      }
      map[c.pixel] = std::min(map[c.pixel], c.label);
    }
  }
  return result;
}

}  // namespace glia
