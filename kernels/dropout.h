#pragma once
// Inverted dropout (Srivastava et al. 2014): y = x mask / (1 - p), dx = dy mask / (1 - p). p = 1 gives zeros.
#include "kernels/op.h"

namespace glia {

// Element i is kept where Philox(seed, stream).uniform(i) >= p (tensor/random.h). Backward draws the same mask again, so nothing
// is saved, and a resumed run repeats it: let `stream` name the layer and the step.
struct Dropout {
  double p = 0.5;
  uint64_t seed = 0;
  uint64_t stream = 0;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const Dropout&, const Tensor& x, Tensor& y);
  using Backward = void(const Dropout&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;

  double scale() const { return p < 1 ? 1 / (1 - p) : 0; }
};

// The same with a given mask of x's shape, uint8: 0 drops, else keeps.
struct MaskedDropout {
  double p = 0.5;
  TensorSpec infer(const Tensor& x, const Tensor& mask) const;
  using Forward = void(const MaskedDropout&, const Tensor& x, const Tensor& mask, Tensor& y);
  using Backward = void(const MaskedDropout&, const Tensor& x, const Tensor& mask, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dmask);  // dmask must be null
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;

  double scale() const { return p < 1 ? 1 / (1 - p) : 0; }
};

// Dropout keeps element i where the upper 24 bits of its random word are at least this.
uint32_t dropout_threshold(double p);

#define GLIA_DECLARE_DROPOUT(space)           \
  namespace space {                           \
  Dropout::Forward dropout;                   \
  Dropout::Backward dropout_backward;         \
  MaskedDropout::Forward masked_dropout;      \
  MaskedDropout::Backward masked_dropout_backward; \
  }
GLIA_DECLARE_DROPOUT(reference)
GLIA_DECLARE_DROPOUT(cpu)
GLIA_DECLARE_DROPOUT(emulated)
GLIA_DECLARE_DROPOUT(cuda)
#undef GLIA_DECLARE_DROPOUT

inline constexpr Variants<Dropout::Forward> Dropout::forward{
    .name = "dropout", .reference = reference::dropout, .cpu = cpu::dropout,
    .emulated = emulated::dropout, .cuda = GLIA_CUDA(cuda::dropout)};
inline constexpr Variants<Dropout::Backward> Dropout::backward{
    .name = "dropout_backward", .reference = reference::dropout_backward, .cpu = cpu::dropout_backward,
    .emulated = emulated::dropout_backward, .cuda = GLIA_CUDA(cuda::dropout_backward)};
inline constexpr Variants<MaskedDropout::Forward> MaskedDropout::forward{
    .name = "masked_dropout", .reference = reference::masked_dropout, .cpu = cpu::masked_dropout,
    .emulated = emulated::masked_dropout, .cuda = GLIA_CUDA(cuda::masked_dropout)};
inline constexpr Variants<MaskedDropout::Backward> MaskedDropout::backward{
    .name = "masked_dropout_backward", .reference = reference::masked_dropout_backward, .cpu = cpu::masked_dropout_backward,
    .emulated = emulated::masked_dropout_backward, .cuda = GLIA_CUDA(cuda::masked_dropout_backward)};

}  // namespace glia
