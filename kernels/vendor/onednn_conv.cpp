// Convolutions by oneDNN's direct algorithm. Images stay NHWC; filters go through a reorder to the layout that oneDNN picks, as in
// any framework that keeps its own. A frozen scale is multiplied into the filter, a residual comes in by the `sum` post-op.
// Primitives are cached by everything that makes them. Tensors without elements go to the hand-written bodies.
#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "kernels/conv.h"
#include "tensor/parallel.h"

namespace glia::onednn {
namespace {

using dnnl::memory;
using Dims = memory::dims;
using Arguments = std::unordered_map<int, memory>;

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

// Debian's oneDNN runs on OpenMP, which this library does not link itself.
void use_our_threads() {
  static const auto set = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (set) set(num_threads());
}

// A pass of a convolution, or of the convolution whose adjoint a transposed one is.
enum class Pass { forward, data, weights, transposed_forward, transposed_data, transposed_weights };

bool is_transposed(Pass pass) { return pass >= Pass::transposed_forward; }

// All that decides which primitive it is.
struct Key {
  Pass pass;
  ConvGeometry g;
  bool bias = false, sum = false, relu = false;

  std::vector<int64_t> numbers() const {
    return {static_cast<int64_t>(pass),
            g.n,
            g.h,
            g.w,
            g.c,
            g.k,
            g.r,
            g.s,
            g.p,
            g.q,
            g.stride[0],
            g.stride[1],
            g.before[0],
            g.before[1],
            g.dilation[0],
            g.dilation[1],
            g.groups,
            bias,
            sum,
            relu};
  }
};

struct Made {
  dnnl::primitive primitive;
  memory::desc filter;  // as oneDNN wants it
};

memory::desc nhwc(int64_t n, int64_t h, int64_t w, int64_t c) {
  return {Dims{n, c, h, w}, memory::data_type::f32, memory::format_tag::nhwc};
}

memory::desc vector_of(int64_t n) { return {Dims{n}, memory::data_type::f32, memory::format_tag::x}; }

// Our KRSC filter, by strides, as (G, K/G, C/G, R, S); transposed: with the roles of K and C exchanged, as a deconvolution has them.
memory::desc our_filter(const ConvGeometry& g, bool transposed) {
  const int64_t k = g.k_group(), c = g.c_group(), size = g.r * g.s * c;
  if (transposed) return {Dims{g.groups, c, k, g.r, g.s}, memory::data_type::f32, Dims{k * size, 1, size, g.s * c, c}};
  return {Dims{g.groups, k, c, g.r, g.s}, memory::data_type::f32, Dims{k * size, size, 1, g.s * c, c}};
}

memory::desc any_filter(const ConvGeometry& g, bool transposed) {
  return {our_filter(g, transposed).dims(), memory::data_type::f32, memory::format_tag::any};
}

// Padding after the image that makes the sizes exact; negative where the last pixels are not read.
Dims pad_after(const ConvGeometry& g) {
  return {(g.p - 1) * g.stride[0] + (g.r - 1) * g.dilation[0] + 1 - g.h - g.before[0],
          (g.q - 1) * g.stride[1] + (g.s - 1) * g.dilation[1] + 1 - g.w - g.before[1]};
}

dnnl::primitive_attr attributes(const Key& key) {
  dnnl::post_ops after;
  if (key.sum) after.append_sum(1.0f);
  if (key.relu) after.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  dnnl::primitive_attr attr;
  attr.set_post_ops(after);
  return attr;
}

// Conv: dnnl::convolution or dnnl::deconvolution, as three types; x and y are what goes in and comes out of its forward pass.
template <class Forward, class Data, class Weights>
Made make(const Key& key, dnnl::algorithm direct, const memory::desc& x, const memory::desc& y, int64_t channels, int pass) {
  const ConvGeometry& g = key.g;
  const memory::desc w = any_filter(g, is_transposed(key.pass)), bias = key.bias ? vector_of(channels) : memory::desc();
  const Dims strides{g.stride[0], g.stride[1]}, dilates{g.dilation[0] - 1, g.dilation[1] - 1}, before{g.before[0], g.before[1]};
  const typename Forward::primitive_desc forward(
      typename Forward::desc(dnnl::prop_kind::forward_training, direct, x, w, bias, y, strides, dilates, before, pad_after(g)),
      attributes(key), engine());
  if (pass == 0) return {Forward(forward), forward.weights_desc()};
  if (pass == 1) {
    const typename Data::primitive_desc pd(typename Data::desc(direct, x, w, y, strides, dilates, before, pad_after(g)), engine(),
                                           forward);
    return {Data(pd), pd.weights_desc()};
  }
  const typename Weights::primitive_desc pd(typename Weights::desc(direct, x, w, y, strides, dilates, before, pad_after(g)),
                                            engine(), forward);
  return {Weights(pd), pd.diff_weights_desc()};
}

Made make(const Key& key) {
  const ConvGeometry& g = key.g;
  const memory::desc image = nhwc(g.n, g.h, g.w, g.c), result = nhwc(g.n, g.p, g.q, g.k);
  if (!is_transposed(key.pass))
    return make<dnnl::convolution_forward, dnnl::convolution_backward_data, dnnl::convolution_backward_weights>(
        key, dnnl::algorithm::convolution_direct, image, result, g.k, static_cast<int>(key.pass));
  return make<dnnl::deconvolution_forward, dnnl::deconvolution_backward_data, dnnl::deconvolution_backward_weights>(
      key, dnnl::algorithm::deconvolution_direct, result, image, g.c,
      static_cast<int>(key.pass) - static_cast<int>(Pass::transposed_forward));
}

const Made& made(const Key& key) {
  static std::mutex mutex;
  static std::map<std::vector<int64_t>, Made> cache;
  const std::lock_guard lock(mutex);
  const auto numbers = key.numbers();
  const auto found = cache.find(numbers);
  return found != cache.end() ? found->second : cache.emplace(numbers, make(key)).first->second;
}

memory wrap(const memory::desc& desc, const float* data) { return {desc, engine(), const_cast<float*>(data)}; }

// Runs a primitive. The filter goes in, or its gradient comes out, by a reorder where the layouts differ.
void execute(const Key& key, const float* filter, Arguments arguments) {
  use_our_threads();
  dnnl::stream stream(engine());
  const Made& m = made(key);
  const bool filter_out = key.pass == Pass::weights || key.pass == Pass::transposed_weights;
  memory ours = wrap(our_filter(key.g, is_transposed(key.pass)), filter);
  const bool same = m.filter == ours.get_desc();
  memory theirs = same ? ours : memory(m.filter, engine());
  if (!same && !filter_out) dnnl::reorder(ours, theirs).execute(stream, ours, theirs);
  arguments.insert({filter_out ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, theirs});
  m.primitive.execute(stream, arguments);
  if (!same && filter_out) dnnl::reorder(theirs, ours).execute(stream, theirs, ours);
  stream.wait();
}

bool has_elements(const Tensor& a, const Tensor& b, const Tensor& c) { return a.size() > 0 && b.size() > 0 && c.size() > 0; }

// dy behind the activation and the scale, and the sums over its pixels.
Tensor output_gradient(Activation activation, const Tensor& y, const Tensor& scale, const Tensor& dy, Tensor* dbias,
                       Tensor* dresidual) {
  const int64_t k = dy.dim(-1), rows = dy.size() / k, grain = std::max<int64_t>(1, (1 << 15) / k),
                chunks = num_chunks(rows, grain);
  const bool mask = activation == Activation::relu, changes = mask || scale;
  const Tensor result = changes ? Tensor(dy.shape()) : dy, partial = Tensor::zeros({dbias ? chunks : 0, k});
  if (!changes && !dbias && !dresidual) return result;
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < k; ++j) {
        const int64_t at = i * k + j;
        const float m = mask && !(y.data<float>()[at] > 0) ? 0.0f : dy.data<float>()[at];
        if (dresidual) dresidual->data<float>()[at] = m;
        if (dbias) partial.data<float>()[begin / grain * k + j] += m;
        if (changes) result.data<float>()[at] = scale ? m * scale.data<float>()[j] : m;
      }
  });
  if (dbias) {
    dbias->fill(0);
    for (int64_t i = 0; i < chunks * k; ++i) dbias->data<float>()[i % k] += partial.data<float>()[i];
  }
  return result;
}

}  // namespace

void conv2d(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
            Tensor& y) {
  if (!has_elements(x, w, y)) return cpu::conv2d(op, x, w, bias, scale, residual, y);
  const ConvGeometry g = geometry(op, x, w, y);
  Tensor filter = w;
  if (scale) {
    filter = w.clone();
    const int64_t size = w.size() / g.k;
    for (int64_t i = 0; i < w.size(); ++i) filter.data<float>()[i] *= scale.data<float>()[i / size];
  }
  if (residual) y.copy_from(residual);
  Arguments arguments{{DNNL_ARG_SRC, wrap(nhwc(g.n, g.h, g.w, g.c), x.data<float>())},
                      {DNNL_ARG_DST, wrap(nhwc(g.n, g.p, g.q, g.k), y.data<float>())}};
  if (bias) arguments.insert({DNNL_ARG_BIAS, wrap(vector_of(g.k), bias.data<float>())});
  execute({Pass::forward, g, bool(bias), bool(residual), op.activation == Activation::relu}, filter.data<float>(),
          std::move(arguments));
}

void conv2d_backward(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale,
                     const Tensor& residual, const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias,
                     Tensor* dscale, Tensor* dresidual) {
  GLIA_CHECK(!dscale, "conv2d: scale is a constant and has no gradient; train an affine layer of its own instead");
  if (!has_elements(x, w, dy))
    return cpu::conv2d_backward(op, x, w, bias, scale, residual, y, dy, dx, dw, dbias, dscale, dresidual);
  const Tensor dsum = output_gradient(op.activation, y, scale, dy, dbias, dresidual);
  const ConvGeometry g = geometry(op, x, w, dy);
  const memory result = wrap(nhwc(g.n, g.p, g.q, g.k), dsum.data<float>());
  const memory::desc image = nhwc(g.n, g.h, g.w, g.c);
  if (dx)
    execute({Pass::data, g}, w.data<float>(), {{DNNL_ARG_DIFF_SRC, wrap(image, dx->data<float>())}, {DNNL_ARG_DIFF_DST, result}});
  if (dw)
    execute({Pass::weights, g}, dw->data<float>(), {{DNNL_ARG_SRC, wrap(image, x.data<float>())}, {DNNL_ARG_DIFF_DST, result}});
}

void conv_transpose2d(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  if (!has_elements(x, w, y)) return cpu::conv_transpose2d(op, x, w, bias, y);
  const ConvGeometry g = geometry(op, x, w, y);
  Arguments arguments{{DNNL_ARG_SRC, wrap(nhwc(g.n, g.p, g.q, g.k), x.data<float>())},
                      {DNNL_ARG_DST, wrap(nhwc(g.n, g.h, g.w, g.c), y.data<float>())}};
  if (bias) arguments.insert({DNNL_ARG_BIAS, wrap(vector_of(g.c), bias.data<float>())});
  execute({Pass::transposed_forward, g, bool(bias), false, op.activation == Activation::relu}, w.data<float>(),
          std::move(arguments));
}

void conv_transpose2d_backward(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                               const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  if (!has_elements(x, w, dy)) return cpu::conv_transpose2d_backward(op, x, w, bias, y, dy, dx, dw, dbias);
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, Tensor(), dy, dbias, nullptr);
  const memory result = wrap(nhwc(g.n, g.h, g.w, g.c), dsum.data<float>());
  const memory::desc image = nhwc(g.n, g.p, g.q, g.k);
  if (dx)
    execute({Pass::transposed_data, g}, w.data<float>(),
            {{DNNL_ARG_DIFF_SRC, wrap(image, dx->data<float>())}, {DNNL_ARG_DIFF_DST, result}});
  if (dw)
    execute({Pass::transposed_weights, g}, dw->data<float>(),
            {{DNNL_ARG_SRC, wrap(image, x.data<float>())}, {DNNL_ARG_DIFF_DST, result}});
}

}  // namespace glia::onednn
