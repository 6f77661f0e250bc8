#pragma once
// Ops that address elements by index. Indices are int64 in [0, size of the axis); another value is an error that names it
// (on a device, where nobody waits for the indices, the kernel says so and ends, and with it all further use of the device).
// Gradients are summed in the order of the indices, so that the bits don't depend on the number of threads.
//
//   Gather       y[.., i, ..] = x[.., index[.., i, ..], ..]   index like x but for the axis
//   IndexSelect  y[.., i, ..] = x[.., index[i], ..]           index (m)
//   ScatterAdd   y = x; y[.., index[.., i, ..], ..] += src[.., i, ..]
//   IndexAdd     y = x; y[.., index[i], ..] += src[.., i, ..]
//   Embedding    y[..] = w[index[..]]: rows of w (n, d)
//   Where        mask ? a : b, broadcast (NumPy's rule)
#include <vector>

#include "kernels/op.h"

namespace glia {

struct Gather {
  int axis = 0;
  TensorSpec infer(const Tensor& x, const Tensor& index) const;
  using Forward = void(const Gather&, const Tensor& x, const Tensor& index, Tensor& y);
  using Backward = void(const Gather&, const Tensor& x, const Tensor& index, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dindex);
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct IndexSelect {
  int axis = 0;
  TensorSpec infer(const Tensor& x, const Tensor& index) const;
  using Forward = void(const IndexSelect&, const Tensor& x, const Tensor& index, Tensor& y);
  using Backward = void(const IndexSelect&, const Tensor& x, const Tensor& index, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dindex);
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// float32 and float64.
struct ScatterAdd {
  int axis = 0;
  TensorSpec infer(const Tensor& x, const Tensor& index, const Tensor& src) const;
  using Forward = void(const ScatterAdd&, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y);
  using Backward = void(const ScatterAdd&, const Tensor& x, const Tensor& index, const Tensor& src, const Tensor& y,
                        const Tensor& dy, Tensor* dx, Tensor* dindex, Tensor* dsrc);
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// float32 and float64.
struct IndexAdd {
  int axis = 0;
  TensorSpec infer(const Tensor& x, const Tensor& index, const Tensor& src) const;
  using Forward = void(const IndexAdd&, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y);
  using Backward = void(const IndexAdd&, const Tensor& x, const Tensor& index, const Tensor& src, const Tensor& y,
                        const Tensor& dy, Tensor* dx, Tensor* dindex, Tensor* dsrc);
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// padding_index: the row that gets no gradient; -1: none.
struct Embedding {
  int64_t padding_index = -1;
  TensorSpec infer(const Tensor& w, const Tensor& index) const;
  using Forward = void(const Embedding&, const Tensor& w, const Tensor& index, Tensor& y);
  using Backward = void(const Embedding&, const Tensor& w, const Tensor& index, const Tensor& y, const Tensor& dy, Tensor* dw,
                        Tensor* dindex);
  static constexpr SaveSet saves = save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// mask is uint8 or boolean.
struct Where {
  TensorSpec infer(const Tensor& mask, const Tensor& a, const Tensor& b) const;
  using Forward = void(const Where&, const Tensor& mask, const Tensor& a, const Tensor& b, Tensor& y);
  using Backward = void(const Where&, const Tensor& mask, const Tensor& a, const Tensor& b, const Tensor& y, const Tensor& dy,
                        Tensor* dmask, Tensor* da, Tensor* db);
  static constexpr SaveSet saves = save::input(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

namespace detail {
// Throws naming the op, the first index outside [0, size) and its place.
void check_indices(const Tensor& index, int64_t size, const char* op);
// NumPy's rule. Throws naming the op.
Shape broadcast_shape(const Shape& a, const Shape& b, const char* op);
// Strides, in elements, of a tensor of shape x seen as one of shape y: 0 where it is repeated.
std::array<int64_t, Shape::max_rank> broadcast_strides(const Shape& x, const Shape& y);
}  // namespace detail

namespace reference {
Gather::Forward gather;
Gather::Backward gather_backward;
IndexSelect::Forward index_select;
IndexSelect::Backward index_select_backward;
ScatterAdd::Forward scatter_add;
ScatterAdd::Backward scatter_add_backward;
IndexAdd::Forward index_add;
IndexAdd::Backward index_add_backward;
Embedding::Forward embedding;
Embedding::Backward embedding_backward;
Where::Forward where;
Where::Backward where_backward;
}  // namespace reference

namespace cpu {
Gather::Forward gather;
Gather::Backward gather_backward;
IndexSelect::Forward index_select;
IndexSelect::Backward index_select_backward;
ScatterAdd::Forward scatter_add;
ScatterAdd::Backward scatter_add_backward;
IndexAdd::Forward index_add;
IndexAdd::Backward index_add_backward;
Embedding::Forward embedding;
Embedding::Backward embedding_backward;
Where::Forward where;
Where::Backward where_backward;
}  // namespace cpu
namespace emulated {
Gather::Forward gather;
Gather::Backward gather_backward;
IndexSelect::Forward index_select;
IndexSelect::Backward index_select_backward;
ScatterAdd::Forward scatter_add;
ScatterAdd::Backward scatter_add_backward;
IndexAdd::Forward index_add;
IndexAdd::Backward index_add_backward;
Embedding::Forward embedding;
Embedding::Backward embedding_backward;
Where::Forward where;
Where::Backward where_backward;
}  // namespace emulated
namespace cuda {
Gather::Forward gather;
Gather::Backward gather_backward;
IndexSelect::Forward index_select;
IndexSelect::Backward index_select_backward;
ScatterAdd::Forward scatter_add;
ScatterAdd::Backward scatter_add_backward;
IndexAdd::Forward index_add;
IndexAdd::Backward index_add_backward;
Embedding::Forward embedding;
Embedding::Backward embedding_backward;
Where::Forward where;
Where::Backward where_backward;
}  // namespace cuda

inline constexpr Variants<Gather::Forward> Gather::forward{.name = "gather",
                                                           .reference = reference::gather,
                                                           .cpu = cpu::gather,
                                                           .emulated = emulated::gather,
                                                           .cuda = GLIA_CUDA(cuda::gather)};
inline constexpr Variants<Gather::Backward> Gather::backward{.name = "gather_backward",
                                                             .reference = reference::gather_backward,
                                                             .cpu = cpu::gather_backward,
                                                             .emulated = emulated::gather_backward,
                                                             .cuda = GLIA_CUDA(cuda::gather_backward)};
inline constexpr Variants<IndexSelect::Forward> IndexSelect::forward{.name = "index_select",
                                                                     .reference = reference::index_select,
                                                                     .cpu = cpu::index_select,
                                                                     .emulated = emulated::index_select,
                                                                     .cuda = GLIA_CUDA(cuda::index_select)};
inline constexpr Variants<IndexSelect::Backward> IndexSelect::backward{.name = "index_select_backward",
                                                                       .reference = reference::index_select_backward,
                                                                       .cpu = cpu::index_select_backward,
                                                                       .emulated = emulated::index_select_backward,
                                                                       .cuda = GLIA_CUDA(cuda::index_select_backward)};
inline constexpr Variants<ScatterAdd::Forward> ScatterAdd::forward{.name = "scatter_add",
                                                                   .reference = reference::scatter_add,
                                                                   .cpu = cpu::scatter_add,
                                                                   .emulated = emulated::scatter_add,
                                                                   .cuda = GLIA_CUDA(cuda::scatter_add)};
inline constexpr Variants<ScatterAdd::Backward> ScatterAdd::backward{.name = "scatter_add_backward",
                                                                     .reference = reference::scatter_add_backward,
                                                                     .cpu = cpu::scatter_add_backward,
                                                                     .emulated = emulated::scatter_add_backward,
                                                                     .cuda = GLIA_CUDA(cuda::scatter_add_backward)};
inline constexpr Variants<IndexAdd::Forward> IndexAdd::forward{.name = "index_add",
                                                               .reference = reference::index_add,
                                                               .cpu = cpu::index_add,
                                                               .emulated = emulated::index_add,
                                                               .cuda = GLIA_CUDA(cuda::index_add)};
inline constexpr Variants<IndexAdd::Backward> IndexAdd::backward{.name = "index_add_backward",
                                                                 .reference = reference::index_add_backward,
                                                                 .cpu = cpu::index_add_backward,
                                                                 .emulated = emulated::index_add_backward,
                                                                 .cuda = GLIA_CUDA(cuda::index_add_backward)};
inline constexpr Variants<Embedding::Forward> Embedding::forward{.name = "embedding",
                                                                 .reference = reference::embedding,
                                                                 .cpu = cpu::embedding,
                                                                 .emulated = emulated::embedding,
                                                                 .cuda = GLIA_CUDA(cuda::embedding)};
inline constexpr Variants<Embedding::Backward> Embedding::backward{.name = "embedding_backward",
                                                                   .reference = reference::embedding_backward,
                                                                   .cpu = cpu::embedding_backward,
                                                                   .emulated = emulated::embedding_backward,
                                                                   .cuda = GLIA_CUDA(cuda::embedding_backward)};
inline constexpr Variants<Where::Forward> Where::forward{.name = "where",
                                                         .reference = reference::where,
                                                         .cpu = cpu::where,
                                                         .emulated = emulated::where,
                                                         .cuda = GLIA_CUDA(cuda::where)};
inline constexpr Variants<Where::Backward> Where::backward{.name = "where_backward",
                                                           .reference = reference::where_backward,
                                                           .cpu = cpu::where_backward,
                                                           .emulated = emulated::where_backward,
                                                           .cuda = GLIA_CUDA(cuda::where_backward)};

}  // namespace glia
