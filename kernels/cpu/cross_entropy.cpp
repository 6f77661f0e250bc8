// Softmax cross entropy. Few classes: as many pixels at a time as a vector has lanes, each class gathered into one vector. Many
// classes: one pixel at a time, along its classes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cross_entropy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/sum-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/loss.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t few_classes = 16, grain = 4096;
constexpr int64_t most_lanes = HWY_MAX_BYTES / 4;
using Index = hn::ScalableTag<int32_t>;

struct Inputs {
  int64_t classes;
  const float *x, *class_weight, *pixel_weight;
  const int64_t* label;
  int64_t ignore_index;
  float smoothing;

  Inputs(const CrossEntropy& op, const Tensor& logits, const Tensor& target, const Tensor& weights, const Tensor& pixels)
      : classes(logits.dim(-1)),
        x(logits.data<float>()),
        class_weight(weights ? weights.data<float>() : nullptr),
        pixel_weight(pixels ? pixels.data<float>() : nullptr),
        label(target.data<int64_t>()),
        ignore_index(op.ignore_index),
        smoothing(static_cast<float>(op.label_smoothing)) {}
  float weight(int64_t c) const { return class_weight ? class_weight[c] : 1.0f; }
  bool counts(int64_t pixel) const {
    if (label[pixel] == ignore_index) return false;
    GLIA_CHECK(label[pixel] >= 0 && label[pixel] < classes,
               "cross_entropy: target {} at pixel {}, want 0 to {} or {} (ignore_index)", label[pixel], pixel, classes - 1,
               ignore_index);
    return true;
  }
};

// A group of pixels, one per lane: their logits, and what the loss needs to know of each. Lanes without a pixel don't count.
struct Group {
  HWY_ALIGN float logits[few_classes * most_lanes] = {};
  HWY_ALIGN int32_t first[most_lanes];  // where a pixel's logits begin
  HWY_ALIGN int32_t label[most_lanes];
  HWY_ALIGN float target_weight[most_lanes];  // class weight of the target
  HWY_ALIGN float scale[most_lanes];          // pixel weight; 0: ignored

  Group(const Inputs& in, int64_t begin, int64_t count) {
    std::copy_n(in.x + begin * in.classes, count * in.classes, logits);
    for (int64_t i = 0; i < vector_lanes(); ++i) {
      const bool counted = i < count && in.counts(begin + i);
      first[i] = i < count ? static_cast<int32_t>(i * in.classes) : 0;
      label[i] = counted ? static_cast<int32_t>(in.label[begin + i]) : 0;
      target_weight[i] = counted ? in.weight(label[i]) : 0.0f;
      scale[i] = !counted ? 0.0f : in.pixel_weight ? in.pixel_weight[begin + i] : 1.0f;
    }
  }
  Vector of_class(int64_t c) const {
    const Index d;
    return hn::GatherIndex(VectorTag(), logits, hn::Add(hn::Load(d, first), hn::Set(d, static_cast<int32_t>(c))));
  }
  Vector of_target() const {
    const Index d;
    return hn::GatherIndex(VectorTag(), logits, hn::Add(hn::Load(d, first), hn::Load(d, label)));
  }
};

// Values and log-sum-exp of up to a vector of pixels; the sum of the target weights is returned.
double few_forward(const Inputs& in, int64_t begin, int64_t count, float* lse, float* values) {
  const Group g(in, begin, count);
  const VectorTag d;
  Vector z[few_classes];
  Vector largest = z[0] = g.of_class(0);
  for (int64_t c = 1; c < in.classes; ++c) largest = hn::Max(largest, z[c] = g.of_class(c));
  Vector sum = splat(0);
  for (int64_t c = 0; c < in.classes; ++c) sum = hn::Add(sum, vector_exp(hn::Sub(z[c], largest)));
  const Vector l = hn::Add(largest, vector_log(sum));
  const Vector weight = hn::Load(d, g.target_weight), scale = hn::Load(d, g.scale);
  Vector value = hn::Mul(weight, hn::Sub(l, g.of_target()));
  if (in.smoothing > 0) {
    Vector spread = splat(0);
    for (int64_t c = 0; c < in.classes; ++c) spread = hn::MulAdd(hn::Set(d, in.weight(c)), hn::Sub(l, z[c]), spread);
    value =
        hn::MulAdd(splat(1 - in.smoothing), value, hn::Mul(hn::Set(d, in.smoothing / static_cast<float>(in.classes)), spread));
  }
  value = hn::IfThenZeroElse(hn::Eq(scale, splat(0)), hn::Mul(scale, value));
  store_part(l, lse, count);
  store_part(value, values, count);
  double weights = 0;
  for (int64_t i = 0; i < count; ++i) weights += static_cast<double>(g.target_weight[i]);
  return weights;
}

void few_backward(const Inputs& in, int64_t begin, int64_t count, const float* lse, const float* k, float all_weights,
                  float* dx) {
  Group g(in, begin, count);
  const VectorTag d;
  const Index di;
  const Vector l = load_part(lse, count), scale = hn::Load(d, g.scale), weight = hn::Load(d, g.target_weight);
  const Vector factor = hn::Mul(load_part(k, count), scale);
  const auto label = hn::Load(di, g.label);
  const float smoothing = in.smoothing / static_cast<float>(in.classes);
  const Vector direct = hn::Mul(splat(1 - in.smoothing), weight);
  HWY_ALIGN float out[few_classes * most_lanes];
  for (int64_t c = 0; c < in.classes; ++c) {
    const Vector p = vector_exp(hn::Sub(g.of_class(c), l));
    const auto hit = hn::RebindMask(d, hn::Eq(label, hn::Set(di, static_cast<int32_t>(c))));
    Vector slope = hn::Mul(direct, hn::IfThenElse(hit, hn::Sub(p, splat(1)), p));
    if (smoothing > 0) {
      const Vector spread = hn::Sub(hn::Mul(p, hn::Set(d, all_weights)), hn::Set(d, in.weight(c)));
      slope = hn::MulAdd(hn::Set(d, smoothing), spread, slope);
    }
    slope = hn::IfThenZeroElse(hn::Eq(scale, splat(0)), hn::Mul(factor, slope));
    HWY_ALIGN float lanes[most_lanes] = {};
    hn::Store(slope, d, lanes);
    for (int64_t i = 0; i < count; ++i) out[i * in.classes + c] = lanes[i];
  }
  std::copy_n(out, count * in.classes, dx);
}

// One pixel of many classes.
double many_forward(const Inputs& in, int64_t pixel, float* lse, float* value) {
  const float* z = in.x + pixel * in.classes;
  const VectorTag d;
  const int64_t lanes = vector_lanes(), n = in.classes;
  Vector largest = load(z);  // more classes than lanes
  for (int64_t c = lanes; c + lanes <= n; c += lanes) largest = hn::Max(largest, load(z + c));
  largest = hn::Max(largest, load(z + n - lanes));
  const Vector top = hn::MaxOfLanes(d, largest);
  const double sum = double_sum(
      n, [&](Vector v) { return vector_exp(hn::Sub(v, top)); }, z);
  *lse = hn::GetLane(top) + static_cast<float>(std::log(sum));
  *value = 0;
  if (!in.counts(pixel)) return 0;
  const float weight = in.weight(in.label[pixel]);
  double v = static_cast<double>((1 - in.smoothing) * weight * (*lse - z[in.label[pixel]]));
  if (in.smoothing > 0) {
    const Vector l = hn::Set(d, *lse);
    const double spread = in.class_weight
                              ? double_sum(
                                    n, [&](Vector a, Vector w) { return hn::Mul(w, hn::Sub(l, a)); }, z, in.class_weight)
                              : double_sum(
                                    n, [&](Vector a) { return hn::Sub(l, a); }, z);
    v += static_cast<double>(in.smoothing) / static_cast<double>(n) * spread;
  }
  *value = static_cast<float>(v) * (in.pixel_weight ? in.pixel_weight[pixel] : 1.0f);
  return static_cast<double>(weight);
}

void many_backward(const Inputs& in, int64_t pixel, float lse, float k, float all_weights, float* dx) {
  const float* z = in.x + pixel * in.classes;
  const VectorTag d;
  if (!in.counts(pixel)) {
    std::fill_n(dx, in.classes, 0.0f);
    return;
  }
  if (in.pixel_weight) k *= in.pixel_weight[pixel];
  const float smoothing = in.smoothing / static_cast<float>(in.classes), direct = (1 - in.smoothing) * in.weight(in.label[pixel]);
  const Vector l = hn::Set(d, lse), of_p = hn::Set(d, k * (direct + smoothing * all_weights)), of_w = hn::Set(d, k * smoothing);
  const auto slope = [&](Vector a) { return hn::Mul(of_p, vector_exp(hn::Sub(a, l))); };
  if (smoothing > 0 && in.class_weight) {
    map_span<false>(
        in.classes, dx, [&](Vector a, Vector w) { return hn::NegMulAdd(of_w, w, slope(a)); }, z, in.class_weight);
  } else if (smoothing > 0) {
    map_span<false>(
        in.classes, dx, [&](Vector a) { return hn::Sub(slope(a), of_w); }, z);
  } else {
    map_span<false>(in.classes, dx, slope, z);
  }
  dx[in.label[pixel]] -= k * direct;
}

void cross_entropy(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                   const Tensor& pixel_weight, Tensor& y, Tensor& logsumexp, Tensor& divisor) {
  const Inputs in(op, x, target, class_weight, pixel_weight);
  const int64_t pixels = target.size(), lanes = vector_lanes();
  float* lse = logsumexp.data<float>();
  struct Partial {
    double value = 0, weight = 0;
  };
  std::vector<Partial> partial(static_cast<size_t>(num_chunks(pixels, grain)));
  parallel_for(pixels, grain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN float values[grain];
    Partial& sum = partial[static_cast<size_t>(begin / grain)];
    if (in.classes <= few_classes) {
      for (int64_t i = begin; i < end; i += lanes)
        sum.weight += few_forward(in, i, std::min(lanes, end - i), lse + i, values + i - begin);
    } else {
      for (int64_t i = begin; i < end; ++i) sum.weight += many_forward(in, i, lse + i, values + i - begin);
    }
    if (op.reduction == Reduction::none) {
      std::copy_n(values, end - begin, y.data<float>() + begin);
    } else {
      sum.value = double_sum(
          end - begin, [](Vector v) { return v; }, values);
    }
  });
  Partial total;
  for (const Partial& p : partial) {
    total.value += p.value;
    total.weight += p.weight;
  }
  if (in.pixel_weight) total.weight = static_cast<double>(pixels);
  *divisor.data<double>() = total.weight;
  if (op.reduction == Reduction::mean) total.value = total.weight != 0 ? total.value / total.weight : 0.0;
  if (op.reduction != Reduction::none) *y.data<float>() = static_cast<float>(total.value);
}

void cross_entropy_backward(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                            const Tensor& pixel_weight, const Tensor& logsumexp, const Tensor& divisor, const Tensor& dy,
                            Tensor& dx) {
  const Inputs in(op, x, target, class_weight, pixel_weight);
  const int64_t pixels = target.size(), lanes = vector_lanes();
  const float *lse = logsumexp.data<float>(), *g = dy.data<float>();
  float all_weights = 0;
  for (int64_t c = 0; c < in.classes; ++c) all_weights += in.weight(c);
  const bool each = op.reduction == Reduction::none;
  const double counted = divisor.item();
  const float factor = op.reduction != Reduction::mean ? 1.0f : counted != 0 ? static_cast<float>(1 / counted) : 0.0f;
  parallel_for(pixels, grain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN float k[grain];
    for (int64_t i = begin; i < end; ++i) k[i - begin] = factor * g[each ? i : 0];
    float* to = dx.data<float>() + begin * in.classes;
    if (in.classes <= few_classes) {
      for (int64_t i = begin; i < end; i += lanes, to += lanes * in.classes)
        few_backward(in, i, std::min(lanes, end - i), lse + i, k + i - begin, all_weights, to);
    } else {
      for (int64_t i = begin; i < end; ++i, to += in.classes) many_backward(in, i, lse[i], k[i - begin], all_weights, to);
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(cross_entropy);
HWY_EXPORT(cross_entropy_backward);

void cross_entropy(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                   const Tensor& pixel_weight, Tensor& y, Tensor& logsumexp, Tensor& divisor) {
  HWY_DYNAMIC_DISPATCH(cross_entropy)(op, x, target, class_weight, pixel_weight, y, logsumexp, divisor);
}

void cross_entropy_backward(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                            const Tensor& pixel_weight, const Tensor&, const Tensor& logsumexp, const Tensor& divisor,
                            const Tensor& dy, Tensor* dx, Tensor*, Tensor* dclass_weight, Tensor* dpixel_weight) {
  GLIA_CHECK(!dclass_weight && !dpixel_weight, "cross_entropy: no gradient with respect to a weight is defined");
  if (dx) HWY_DYNAMIC_DISPATCH(cross_entropy_backward)(op, x, target, class_weight, pixel_weight, logsumexp, divisor, dy, *dx);
}

}  // namespace glia::cpu
#endif
