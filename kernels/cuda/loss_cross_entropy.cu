// Softmax cross entropy over the last axis. A pixel belongs to a team of 1, 4, 8 or 32 neighbouring lanes, each with four of its
// classes at a time: in one 16-byte access where addresses allow, else a team's width apart. So the lanes of a warp read and
// write neighbouring memory however few the classes are. Forward is one pass over the logits: maximum, sum of exponentials (one a
// logit), value and both sums of the mean (kernels/cuda/reduce.cuh). Up to 128 classes a row stays in registers; a longer one is
// taken in pieces, and read again, from the cache, where labels are smoothed. Backward is one pass. Bound by memory.
//
// A device cannot raise an error for a target out of range: value and gradient of such a pixel are NaN.
#include <algorithm>

#include "kernels/cuda/loss.cuh"
#include "kernels/loss.h"

namespace glia::GPU_NS {
namespace {

constexpr int ce_threads = 256, ce_pixels = 2;  // a team has two pixels in flight

// What both passes know.
struct CrossEntropyInputs {
  int64_t pixels, ignore_index;
  int classes;
  float smoothing;
  const float* x;
  const int64_t* target;
  const float *class_weight, *pixel_weight;

  __device__ float weight(int c) const { return class_weight ? class_weight[c] : 1.0f; }
};

// A pixel's target; `scale` is its pixel weight, 0 when it is ignored, NaN when its target is out of range.
struct PixelTarget {
  int label = 0;  // in range
  float scale = 0;
  bool counts = false;

  PixelTarget() = default;
  __device__ PixelTarget(const CrossEntropyInputs& in, int64_t pixel) {
    const int64_t t = in.target[pixel];
    counts = t != in.ignore_index;
    if (!counts) return;
    const bool in_range = t >= 0 && t < in.classes;
    label = in_range ? int(t) : 0;
    scale = !in_range ? NAN : in.pixel_weight ? in.pixel_weight[pixel] : 1.0f;
  }
};

// Which classes a lane has: four from `base`, then as many a team's width of them further on.
template <int Team, bool Vectors>
struct Slots {
  static constexpr int width = 4 * Team;
  int lane = int(threadIdx.x) % Team;

  __device__ int place(int base, int j) const { return base + (Vectors ? 4 * lane + j : lane + j * Team); }
  // -inf behind the last class.
  __device__ void load(const float* row, int base, int classes, float (&v)[4]) const {
    if constexpr (Vectors) {
      Pack<4> four{{-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
      if (place(base, 0) < classes) four = load_pack<4>(row + place(base, 0));
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) v[j] = four.at[j];
    } else {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) v[j] = place(base, j) < classes ? row[place(base, j)] : -INFINITY;
    }
  }
  __device__ void store(float* row, int base, int classes, const float (&v)[4]) const {
    if constexpr (Vectors) {
      if (place(base, 0) < classes) store_pack(row + place(base, 0), Pack<4>{{v[0], v[1], v[2], v[3]}});
    } else {
      GPU_UNROLL
      for (int j = 0; j < 4; ++j)
        if (place(base, j) < classes) row[place(base, j)] = v[j];
    }
  }
};

template <int Team>
__device__ float team_largest(float v) {
  GPU_UNROLL
  for (int d = 1; d < Team; d *= 2) v = fmaxf(v, __shfl_xor_sync(all_lanes, v, d));
  return v;
}
template <int Team>
__device__ float team_total(float v) {
  GPU_UNROLL
  for (int d = 1; d < Team; d *= 2) v += __shfl_xor_sync(all_lanes, v, d);
  return v;
}

// Calls f(base, v) for the lane's classes of a row: the first four, which are `first`, and the further ones of a warp's long row.
template <int Team, bool Vectors, class F>
__device__ void visit_row(const Slots<Team, Vectors>& slots, const float* row, int classes, const float (&first)[4], F f) {
  f(0, first);
  if constexpr (Team == 32) {
    for (int base = slots.width; base < classes; base += slots.width) {
      float v[4];
      slots.load(row, base, classes, v);
      f(base, v);
    }
  }
}

template <int Team, bool Vectors>
__device__ float log_sum_exp(const Slots<Team, Vectors>& slots, const float* row, int classes, const float (&first)[4]) {
  float largest = -INFINITY, sum = 0;
  visit_row(slots, row, classes, first, [&](int base, const float(&v)[4]) {
    const float top = fmaxf(largest, team_largest<Team>(fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]))));
    if (base > 0) sum *= expf(largest - top);
    largest = top;
    GPU_UNROLL
    for (int j = 0; j < 4; ++j)
      if (slots.place(base, j) < classes) sum += expf(v[j] - top);
  });
  return largest + logf(team_total<Team>(sum));
}

// Sums of the values and of the targets' class weights.
using CrossEntropySums = Both<DoubleSum, DoubleSum>;

struct WriteMean {
  bool mean, by_pixels;  // by_pixels: the divisor is their number
  int64_t pixels;
  float* y;  // null: values are written one by one
  double* divisor;
  __device__ void operator()(const CrossEntropySums& total) const {
    const double counted = by_pixels ? double(pixels) : total.second.sum;
    *divisor = counted;
    if (y) *y = float(!mean ? total.first.sum : counted != 0 ? total.first.sum / counted : 0.0);
  }
};

template <int Team, bool Vectors>
__global__ void __launch_bounds__(ce_threads, 4)
    cross_entropy_kernel(CrossEntropyInputs in, float* lse, float* values, WriteMean write, CrossEntropySums* partials) {
  constexpr int teams = ce_threads / Team;
  GPU_SHARED(CrossEntropySums, parts, [32]);
  const Slots<Team, Vectors> slots;
  const int team = int(threadIdx.x) / Team;
  CrossEntropySums mine = CrossEntropySums::none();
  for (int64_t begin = int64_t(blockIdx.x) * teams * ce_pixels; begin < in.pixels;
       begin += int64_t(gridDim.x) * teams * ce_pixels) {
    float v[ce_pixels][4];
    PixelTarget target[ce_pixels];
    GPU_UNROLL
    for (int u = 0; u < ce_pixels; ++u) {  // teams behind the end repeat the last pixel: the whole warp has to meet
      const int64_t pixel = min(begin + u * teams + team, in.pixels - 1);
      slots.load(in.x + pixel * in.classes, 0, in.classes, v[u]);
      target[u] = PixelTarget(in, pixel);
    }
    GPU_UNROLL
    for (int u = 0; u < ce_pixels; ++u) {
      const int64_t pixel = min(begin + u * teams + team, in.pixels - 1);
      const float* const row = in.x + pixel * in.classes;
      const float l = log_sum_exp(slots, row, in.classes, v[u]);
      const float weight = in.weight(target[u].label);
      float value = weight * (l - row[target[u].label]);
      if (in.smoothing > 0) {
        float spread = 0;
        visit_row(slots, row, in.classes, v[u], [&](int base, const float(&z)[4]) {
          GPU_UNROLL
          for (int j = 0; j < 4; ++j)
            if (slots.place(base, j) < in.classes) spread += in.weight(slots.place(base, j)) * (l - z[j]);
        });
        value = (1 - in.smoothing) * value + in.smoothing / float(in.classes) * team_total<Team>(spread);
      }
      value = target[u].counts ? value * target[u].scale : 0.0f;
      if (slots.lane != 0 || begin + u * teams + team >= in.pixels) continue;
      lse[pixel] = l;
      if (values) values[pixel] = value;
      mine.first.sum += double(value);
      if (target[u].counts) mine.second.sum += double(weight);
    }
  }
  leave_partial(mine, parts, partials, write);
}

// dx_c = k [(1 - s) w_t (p_c - 1[c = t]) + s / C (p_c sum_j w_j - w_c)], k = dy pixel_weight / divisor
template <int Team, bool Vectors>
__global__ void __launch_bounds__(ce_threads, 4)
    cross_entropy_backward_kernel(CrossEntropyInputs in, const float* lse, const double* divisor, const float* dy, bool dy_each,
                                  float* dx) {
  constexpr int teams = ce_threads / Team;
  GPU_SHARED(Total<float>, parts, [32]);
  const Slots<Team, Vectors> slots;
  const int team = int(threadIdx.x) / Team;
  Total<float> weights{float(in.classes)};
  if (in.smoothing > 0 && in.class_weight) {
    weights.sum = 0;
    for (int c = int(threadIdx.x); c < in.classes; c += ce_threads) weights.sum += in.class_weight[c];
    weights = merge_block(weights, parts);
  }
  const float smoothing = in.smoothing / float(in.classes);
  const float factor = !divisor ? 1.0f : *divisor != 0 ? float(1 / *divisor) : 0.0f;
  for (int64_t begin = int64_t(blockIdx.x) * teams; begin < in.pixels; begin += int64_t(gridDim.x) * teams) {
    const int64_t pixel = begin + team;
    if (pixel >= in.pixels) continue;
    const PixelTarget target(in, pixel);
    const float k = factor * dy[dy_each ? pixel : 0] * target.scale, l = lse[pixel];
    const float direct = (1 - in.smoothing) * in.weight(target.label);
    const float* const row = in.x + pixel * in.classes;
    float first[4];
    slots.load(row, 0, in.classes, first);
    visit_row(slots, row, in.classes, first, [&](int base, const float(&z)[4]) {
      float out[4];
      GPU_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int c = slots.place(base, j);
        const float p = expf(z[j] - l);
        float slope = direct * (p - (c == target.label ? 1.0f : 0.0f));
        if (in.smoothing > 0 && c < in.classes) slope += smoothing * (p * weights.sum - in.weight(c));
        out[j] = target.counts ? k * slope : 0.0f;
      }
      slots.store(dx + pixel * in.classes, base, in.classes, out);
    });
  }
}

CrossEntropyInputs inputs_of(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                             const Tensor& pixel_weight) {
  GLIA_CHECK(x.dim(-1) <= INT32_MAX / 2, "cross_entropy: {} classes, want fewer than 2^30 on devices", x.dim(-1));
  return {.pixels = target.size(),
          .ignore_index = op.ignore_index,
          .classes = int(x.dim(-1)),
          .smoothing = float(op.label_smoothing),
          .x = x.device_data<float>(),
          .target = target.device_data<int64_t>(),
          .class_weight = class_weight ? class_weight.device_data<float>() : nullptr,
          .pixel_weight = pixel_weight ? pixel_weight.device_data<float>() : nullptr};
}

// Calls f.operator()<Team, Vectors>() for this number of classes.
template <class F>
void with_team(int classes, bool aligned, F f) {
  const bool vectors = aligned && classes % 4 == 0;
  const auto pick = [&]<int Team>() {
    return vectors ? f.template operator()<Team, true>() : f.template operator()<Team, false>();
  };
  if (classes <= 4) {
    pick.template operator()<1>();
  } else if (classes <= 16) {
    pick.template operator()<4>();
  } else if (classes <= 32) {
    pick.template operator()<8>();
  } else {
    pick.template operator()<32>();
  }
}

int blocks_for(int64_t pixels, int pixels_a_block) {
  return int(std::clamp<int64_t>(divide_up(pixels, pixels_a_block), 1, elementwise_blocks));
}

}  // namespace

void cross_entropy(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                   const Tensor& pixel_weight, Tensor& y, Tensor& logsumexp, Tensor& divisor) {
  const CrossEntropyInputs in = inputs_of(op, x, target, class_weight, pixel_weight);
  float* const to = y.device_data<float>();
  const bool each = op.reduction == Reduction::none;
  const WriteMean write{op.reduction == Reduction::mean, bool(pixel_weight), in.pixels, each ? nullptr : to,
                        divisor.device_data<double>()};
  with_team(in.classes, aligned16(in.x), [&]<int Team, bool Vectors>() {
    const int blocks = blocks_for(in.pixels, ce_threads / Team * ce_pixels);
    const LossPartials<CrossEntropySums> partials(blocks, x.device());
    launch({unsigned(blocks), ce_threads}, cross_entropy_kernel<Team, Vectors>, in, logsumexp.device_data<float>(),
           each ? to : nullptr, write, partials.at());
    merge_partials(partials, write);
  });
}

void cross_entropy_backward(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                            const Tensor& pixel_weight, const Tensor&, const Tensor& logsumexp, const Tensor& divisor,
                            const Tensor& dy, Tensor* dx, Tensor*, Tensor* dclass_weight, Tensor* dpixel_weight) {
  GLIA_CHECK(!dclass_weight && !dpixel_weight, "cross_entropy: no gradient with respect to a weight is defined");
  if (!dx || dx->size() == 0) return;
  const CrossEntropyInputs in = inputs_of(op, x, target, class_weight, pixel_weight);
  float* const to = dx->device_data<float>();
  const double* const count = op.reduction == Reduction::mean ? divisor.device_data<double>() : nullptr;
  with_team(in.classes, aligned16(in.x) && aligned16(to), [&]<int Team, bool Vectors>() {
    const int blocks = blocks_for(in.pixels, ce_threads / Team);
    launch({unsigned(blocks), ce_threads}, cross_entropy_backward_kernel<Team, Vectors>, in, logsumexp.device_data<float>(),
           count, dy.device_data<float>(), op.reduction == Reduction::none, to);
  });
}

}  // namespace glia::GPU_NS
