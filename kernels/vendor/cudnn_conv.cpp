// Convolutions by cuDNN 9, as one more algorithm of the CUDA bodies: NHWC and KRSC are layouts it knows. Which of its own algorithms runs
// is what its heuristic puts first among the deterministic ones, so that two runs on one machine give the same bits; remembered by shape.
#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/conv.h"
#include "kernels/vendor/cudnn.h"

namespace glia::cudnn {
namespace {

constexpr size_t most_workspace = size_t(1) << 30;

// One descriptor: made, set, and dropped with the object.
template <class Descriptor>
class Owned {
 public:
  using Destroy = cudnnStatus_t(Descriptor);
  template <class Create>
  Owned(Create create, Destroy* destroy) : destroy_(destroy) { check(create(&descriptor_), "cudnnCreateDescriptor("); }
  ~Owned() { destroy_(descriptor_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  operator Descriptor() const { return descriptor_; }

 private:
  Descriptor descriptor_ = nullptr;
  Destroy* destroy_;
};

int narrow(int64_t n) { return static_cast<int>(n); }

struct TensorDescriptor : Owned<cudnnTensorDescriptor_t> {
  TensorDescriptor(int64_t n, int64_t h, int64_t w, int64_t c)
      : Owned(library()->cudnnCreateTensorDescriptor, library()->cudnnDestroyTensorDescriptor) {
    GLIA_CUDNN(cudnnSetTensor4dDescriptor(*this, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, narrow(n), narrow(c), narrow(h), narrow(w)));
  }
};

struct FilterDescriptor : Owned<cudnnFilterDescriptor_t> {
  explicit FilterDescriptor(const ConvGeometry& g)
      : Owned(library()->cudnnCreateFilterDescriptor, library()->cudnnDestroyFilterDescriptor) {
    GLIA_CUDNN(cudnnSetFilter4dDescriptor(*this, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, narrow(g.k), narrow(g.c_group()), narrow(g.r),
                                          narrow(g.s)));
  }
};

struct ConvDescriptor : Owned<cudnnConvolutionDescriptor_t> {
  explicit ConvDescriptor(const ConvGeometry& g)
      : Owned(library()->cudnnCreateConvolutionDescriptor, library()->cudnnDestroyConvolutionDescriptor) {
    GLIA_CUDNN(cudnnSetConvolution2dDescriptor(*this, narrow(g.before[0]), narrow(g.before[1]), narrow(g.stride[0]),
                                               narrow(g.stride[1]), narrow(g.dilation[0]), narrow(g.dilation[1]),
                                               CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    GLIA_CUDNN(cudnnSetConvolutionGroupCount(*this, narrow(g.groups)));
    const bool tensor_cores = precision() == Precision::tf32 || precision() == Precision::bf16;
    GLIA_CUDNN(cudnnSetConvolutionMathType(*this, tensor_cores ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH));
  }
};

struct Descriptors {
  TensorDescriptor image, result;
  FilterDescriptor filter;
  ConvDescriptor conv;
  explicit Descriptors(const ConvGeometry& g) : image(g.n, g.h, g.w, g.c), result(g.n, g.p, g.q, g.k), filter(g), conv(g) {}
};

struct Choice {
  int algorithm;
  size_t workspace;
  cudnnMathType_t math;
};

using Key = std::array<int64_t, 18>;
Key key_of(const ConvGeometry& g, ConvPass pass) {
  return {g.n, g.h, g.w, g.c, g.k, g.r, g.s, g.p, g.q, g.stride[0], g.stride[1], g.before[0], g.before[1], g.dilation[0],
          g.dilation[1], g.groups, static_cast<int64_t>(pass), static_cast<int64_t>(precision())};
}

// The choice for this shape; rank(results) fills in cuDNN's order, best first, and gives their number.
template <class Performance, class Rank>
Choice choose(const ConvGeometry& g, ConvPass pass, const Rank& rank) {
  static std::mutex mutex;
  static std::map<Key, Choice> known;
  const std::lock_guard lock(mutex);
  const Key key = key_of(g, pass);
  if (const auto it = known.find(key); it != known.end()) return it->second;
  std::array<Performance, 12> results;
  const int count = rank(std::span(results));
  for (int i = 0; i < count; ++i) {
    const Performance& r = results[static_cast<size_t>(i)];
    if (r.status == CUDNN_STATUS_SUCCESS && r.determinism == CUDNN_DETERMINISTIC && r.memory <= most_workspace)
      return known[key] = {static_cast<int>(r.algo), r.memory, r.mathType};
  }
  throw DeviceError("cuDNN has no deterministic algorithm for this convolution; use --kernels hand");
}

Tensor workspace_of(const Choice& choice, Device device) {
  return Tensor({static_cast<int64_t>(choice.workspace)}, DType::uint8, device);
}

// y = max(0, y scale + bias + residual), each where it is wanted.
void finish(const ConvEpilogue& e, const Tensor& y) {
  const TensorDescriptor whole(y.dim(0), y.dim(1), y.dim(2), y.dim(3)), channels(1, 1, 1, y.dim(3));
  const float one = 1, zero = 0;
  const auto& cudnn = *library();
  if (e.scale) {
    static const cudnnOpTensorDescriptor_t multiply = [&] {
      cudnnOpTensorDescriptor_t d = nullptr;
      GLIA_CUDNN(cudnnCreateOpTensorDescriptor(&d));
      GLIA_CUDNN(cudnnSetOpTensorDescriptor(d, CUDNN_OP_TENSOR_MUL, CUDNN_DATA_FLOAT, CUDNN_PROPAGATE_NAN));
      return d;
    }();
    GLIA_CUDNN(cudnnOpTensor(cudnn.handle, multiply, &one, whole, y.raw(), &one, channels, e.scale, &zero, whole, y.raw()));
  }
  if (e.bias) GLIA_CUDNN(cudnnAddTensor(cudnn.handle, &one, channels, e.bias, &one, whole, y.raw()));
  if (e.residual) GLIA_CUDNN(cudnnAddTensor(cudnn.handle, &one, whole, e.residual, &one, whole, y.raw()));
  if (!e.relu) return;
  static const cudnnActivationDescriptor_t relu = [&] {
    cudnnActivationDescriptor_t d = nullptr;
    GLIA_CUDNN(cudnnCreateActivationDescriptor(&d));
    GLIA_CUDNN(cudnnSetActivationDescriptor(d, CUDNN_ACTIVATION_RELU, CUDNN_PROPAGATE_NAN, 0));
    return d;
  }();
  GLIA_CUDNN(cudnnActivationForward(cudnn.handle, relu, &one, whole, y.raw(), &zero, whole, y.raw()));
}

// Both pads of an axis are the same in cuDNN; where that gives the result's size, what lies further behind is zero to both.
bool applicable(const ConvGeometry& g, ConvPass) {
  if (precision() == Precision::exact) return false;  // cuDNN may take Winograd's algorithm
  if (g.n == 0 || g.c == 0 || g.k == 0 || !library()) return false;
  const auto side = [&](int64_t in, int64_t taps, size_t axis) {
    return (in + 2 * g.before[axis] - g.dilation[axis] * (taps - 1) - 1) / g.stride[axis] + 1;
  };
  return side(g.h, g.r, 0) == g.p && side(g.w, g.s, 1) == g.q;
}

void forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& epilogue, const Tensor& y) {
  const Descriptors d(g);
  const cudnnHandle_t handle = library()->handle;
  const Choice choice = choose<cudnnConvolutionFwdAlgoPerf_t>(g, ConvPass::forward, [&](auto results) {
    int count = 0;
    GLIA_CUDNN(cudnnGetConvolutionForwardAlgorithm_v7(handle, d.image, d.filter, d.conv, d.result, narrow(std::ssize(results)), &count,
                                                      results.data()));
    return count;
  });
  GLIA_CUDNN(cudnnSetConvolutionMathType(d.conv, choice.math));
  const Tensor space = workspace_of(choice, x.device());
  const float one = 1, zero = 0;
  GLIA_CUDNN(cudnnConvolutionForward(handle, &one, d.image, x.raw(), d.filter, w.raw(), d.conv,
                                     static_cast<cudnnConvolutionFwdAlgo_t>(choice.algorithm), space.raw(), space.bytes(), &zero,
                                     d.result, y.raw()));
  finish(epilogue, y);
}

void data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& epilogue, const Tensor& dx) {
  const Descriptors d(g);
  const cudnnHandle_t handle = library()->handle;
  const Choice choice = choose<cudnnConvolutionBwdDataAlgoPerf_t>(g, ConvPass::data_gradient, [&](auto results) {
    int count = 0;
    GLIA_CUDNN(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, d.filter, d.result, d.conv, d.image, narrow(std::ssize(results)),
                                                           &count, results.data()));
    return count;
  });
  GLIA_CUDNN(cudnnSetConvolutionMathType(d.conv, choice.math));
  const Tensor space = workspace_of(choice, dy.device());
  const float one = 1, zero = 0;
  GLIA_CUDNN(cudnnConvolutionBackwardData(handle, &one, d.filter, w.raw(), d.result, dy.raw(), d.conv,
                                          static_cast<cudnnConvolutionBwdDataAlgo_t>(choice.algorithm), space.raw(), space.bytes(),
                                          &zero, d.image, dx.raw()));
  finish(epilogue, dx);
}

void weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  const Descriptors d(g);
  const cudnnHandle_t handle = library()->handle;
  const Choice choice = choose<cudnnConvolutionBwdFilterAlgoPerf_t>(g, ConvPass::weight_gradient, [&](auto results) {
    int count = 0;
    GLIA_CUDNN(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, d.image, d.result, d.conv, d.filter, narrow(std::ssize(results)),
                                                             &count, results.data()));
    return count;
  });
  GLIA_CUDNN(cudnnSetConvolutionMathType(d.conv, choice.math));
  const Tensor space = workspace_of(choice, x.device());
  const float one = 1, zero = 0;
  GLIA_CUDNN(cudnnConvolutionBackwardFilter(handle, &one, d.image, x.raw(), d.result, dy.raw(), d.conv,
                                            static_cast<cudnnConvolutionBwdFilterAlgo_t>(choice.algorithm), space.raw(),
                                            space.bytes(), &zero, d.filter, dw.raw()));
}

}  // namespace

const DeviceConvAlgorithm& conv_algorithm() {
  static constexpr DeviceConvAlgorithm algorithm{"cudnn", applicable, forward, data_gradient, weight_gradient};
  return algorithm;
}

}  // namespace glia::cudnn
