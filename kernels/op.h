#pragma once
// What an op is. An op is a plain struct of its parameters with
//   infer(inputs...)    checks the inputs, gives the TensorSpec of the output (or a std::array of them);
//   Forward, Backward   the signatures of its bodies;
//   forward, backward   constexpr tables of bodies, one slot per implementation;
//   saves               a bit set: which inputs and outputs backward reads.
//
//   struct Scale {
//     double factor = 1;
//     TensorSpec infer(const Tensor& x) const;
//     using Forward = void(const Scale&, const Tensor& x, Tensor& y);
//     using Backward = void(const Scale&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
//     static constexpr SaveSet saves = save::nothing;   // or: SaveSet saves() const, where it depends on the parameters
//     static const Variants<Forward> forward;
//     static const Variants<Backward> backward;         // an op without one has no gradient
//   };
//
// Rules that every body keeps:
//   - outputs come allocated and uninitialised, and are written whole;
//   - backward gets all inputs, all outputs, the gradient dy of output 0, then one pointer per input: null when that gradient is
//     not wanted, else a tensor of the input's shape, uninitialised, to be overwritten. Inputs and outputs that the op did
//     not save, and optional inputs that were not given, arrive as absent tensors (false);
//   - only output 0 carries a gradient; further ones are by-products (indices, statistics);
//   - `reference` bodies are naive loops, templated over float and double: the readable specification. They serve float64 on
//     every device. `cpu` bodies are fast and need to handle float32 (and integer types where the op has them);
//   - parallel loops go through parallel_for; reductions combine chunk results in chunk order.
#include <array>

#include "tensor/tensor.h"

namespace glia {

struct TensorSpec {
  Shape shape;
  DType dtype = DType::float32;
};

// A set of inputs and outputs, written save::input(0) | save::output(0).
struct SaveSet {
  uint32_t bits = 0;
  constexpr bool has(SaveSet other) const { return (bits & other.bits) != 0; }
};
constexpr SaveSet operator|(SaveSet a, SaveSet b) { return {a.bits | b.bits}; }

namespace save {
inline constexpr SaveSet nothing{};
constexpr SaveSet input(int i) { return {1u << i}; }
constexpr SaveSet output(int i) { return {1u << (16 + i)}; }
}  // namespace save

// Which implementations a run uses: --kernels.
enum class KernelChoice { automatic, hand, vendor, reference };
KernelChoice kernel_choice();
void set_kernel_choice(KernelChoice choice);
class KernelChoiceScope {
 public:
  explicit KernelChoiceScope(KernelChoice choice) : before_(kernel_choice()) { set_kernel_choice(choice); }
  ~KernelChoiceScope() { set_kernel_choice(before_); }
  KernelChoiceScope(const KernelChoiceScope&) = delete;
  KernelChoiceScope& operator=(const KernelChoiceScope&) = delete;

 private:
  KernelChoice before_;
};

// What matrix products and convolutions of float32 tensors compute in on devices. exact and fp32: float32 (fp32, the default, leaves
// room for algorithms that reorder sums). tf32, bf16: factors rounded to these on their way into the tensor cores, sums in float32.
enum class Precision { exact, fp32, tf32, bf16 };
Precision precision();
void set_precision(Precision precision);
class PrecisionScope {
 public:
  explicit PrecisionScope(Precision p) : before_(precision()) { set_precision(p); }
  ~PrecisionScope() { set_precision(before_); }
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  Precision before_;
};

// One slot per implementation of a function. Absent ones are null. `emulated` and `cuda` are one source compiled twice.
template <class Signature>
struct Variants {
  const char* name = "";
  Signature* reference = nullptr;
  Signature* cpu = nullptr;
  Signature* onednn = nullptr;
  Signature* emulated = nullptr;
  Signature* cuda = nullptr;
  Signature* vendor = nullptr;  // cuDNN, cuBLAS

  // The body for tensors of this type on this device under kernel_choice(). A missing vendor body falls back to the hand-written
  // one, a missing hand-written one on the CPU to the reference. Throws when there is none.
  Signature* pick(Device device, DType dtype) const {
    const KernelChoice choice = kernel_choice();
    Signature* body = nullptr;
    if (device.kind == DeviceKind::cuda) {
      body = choice == KernelChoice::vendor && vendor ? vendor : cuda;
    } else if (device.kind == DeviceKind::emulated) {
      body = emulated;
    } else if (choice == KernelChoice::reference || dtype == DType::float64) {
      body = reference;
    } else {
      body = choice == KernelChoice::vendor && onednn ? onednn : cpu ? cpu : reference;
    }
    GLIA_CHECK(body, "{}: no kernel for {} on {}", name, name_of(dtype), to_string(device));
    return body;
  }
};

// Marks small functions that kernels call too.
#if defined(__CUDACC__)
#define GLIA_HOST_DEVICE __host__ __device__
#else
#define GLIA_HOST_DEVICE
#endif

#if defined(GLIA_WITH_CUDA)
#define GLIA_CUDA(body) body
#else
#define GLIA_CUDA(body) nullptr
#endif

#if defined(GLIA_WITH_CUDNN)
#define GLIA_CUDNN_SLOT(body) body
#else
#define GLIA_CUDNN_SLOT(body) nullptr
#endif

#if defined(GLIA_WITH_CUBLAS)
#define GLIA_CUBLAS_SLOT(body) body
#else
#define GLIA_CUBLAS_SLOT(body) nullptr
#endif

#if defined(GLIA_WITH_ONEDNN)
#define GLIA_ONEDNN(body) body
#else
#define GLIA_ONEDNN(body) nullptr
#endif

}  // namespace glia
