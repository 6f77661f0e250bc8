#pragma once
// Algorithms on masks and label maps: components, holes, distances, peaks, watershed, growth. No gradients. The ops
// ConnectedComponents, SquaredDistance and Watershed run on any device; the functions take host tensors.
//
// A mask is (H, W) uint8 or bool, non-zero is inside. A label map is (H, W) int32, 0 is background. Connectivity is 4 (sides) or
// 8 (sides and corners). Functions throw InternalError on tensors of another rank or type.
#include <cstdint>
#include <vector>

#include "kernels/op.h"

namespace glia {

// Connected sets of non-zero pixels get labels 1, 2, ... in the raster order of their first pixels (as scikit-image's label);
// by_value: only equal values join. x (H, W) uint8, bool or int32 -> labels (H, W) int32.
struct ConnectedComponents {
  int connectivity = 8;
  bool by_value = false;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const ConnectedComponents&, const Tensor& x, Tensor& labels);
  static const Variants<Forward> forward;
};

// Squared Euclidean distance of each inside pixel to the nearest pixel outside, 0 outside; exact. A mask without outside pixels
// gives (H + W)^2 everywhere. mask (H, W) -> (H, W) int32; H + W up to 46340.
struct SquaredDistance {
  TensorSpec infer(const Tensor& mask) const;
  using Forward = void(const SquaredDistance&, const Tensor& mask, Tensor& squared);
  static const Variants<Forward> forward;
};

// Watershed with markers, whose labels hang on neither the order of the work nor the markers' numbers. Within the mask (if given)
// markers flood their neighbours, and these theirs. A flooded pixel has a level, the highest value on its way from the marker (NaN is
// above all), and steps: 1 where the level has risen to its own value, else 2 more than the neighbour that it was flooded from; a
// marker has its own value and 0 steps. A pixel is flooded from its neighbour of the least (level, steps), of equal ones the first in
// raster order, and takes its label. Pixels that no marker reaches get 0.
// That is the order of scikit-image's watershed, lowest level first and then first come first served, but for pixels of one level
// and equally many steps, where scikit-image goes by the moment each entered its queue, which only a sequential algorithm knows:
// among equal values a few pixels between two markers may differ; where all values are distinct, none do.
// x (H, W) float32, markers (H, W) int32 with 0 for none, mask (H, W) uint8 or bool -> labels (H, W) int32. Up to 2^30 pixels.
struct Watershed {
  int connectivity = 4;
  TensorSpec infer(const Tensor& x, const Tensor& markers, const Tensor& mask) const;
  using Forward = void(const Watershed&, const Tensor& x, const Tensor& markers, const Tensor& mask, Tensor& labels);
  static const Variants<Forward> forward;
};

namespace reference {
ConnectedComponents::Forward connected_components;  // flood fill in raster order
SquaredDistance::Forward squared_distance;          // the minimum over all outside pixels
Watershed::Forward watershed;                       // sweeps until nothing changes
}  // namespace reference
namespace cpu {
ConnectedComponents::Forward connected_components;  // union-find over the runs of rows
SquaredDistance::Forward squared_distance;          // two separable passes: Meijster, Roerdink, Hesselink (2000)
Watershed::Forward watershed;                       // Dijkstra's algorithm
}  // namespace cpu
namespace emulated {
ConnectedComponents::Forward connected_components;
SquaredDistance::Forward squared_distance;
Watershed::Forward watershed;
}  // namespace emulated
namespace cuda {
ConnectedComponents::Forward connected_components;
SquaredDistance::Forward squared_distance;
Watershed::Forward watershed;
}  // namespace cuda
inline constexpr Variants<ConnectedComponents::Forward> ConnectedComponents::forward{
    .name = "connected_components",
    .reference = reference::connected_components,
    .cpu = cpu::connected_components,
    .emulated = emulated::connected_components,
    .cuda = GLIA_CUDA(cuda::connected_components)};
inline constexpr Variants<SquaredDistance::Forward> SquaredDistance::forward{.name = "squared_distance",
                                                                             .reference = reference::squared_distance,
                                                                             .cpu = cpu::squared_distance,
                                                                             .emulated = emulated::squared_distance,
                                                                             .cuda = GLIA_CUDA(cuda::squared_distance)};
inline constexpr Variants<Watershed::Forward> Watershed::forward{.name = "watershed",
                                                                 .reference = reference::watershed,
                                                                 .cpu = cpu::watershed,
                                                                 .emulated = emulated::watershed,
                                                                 .cuda = GLIA_CUDA(cuda::watershed)};

Tensor connected_components(const Tensor& x, const ConnectedComponents& op = {});
Tensor squared_distance(const Tensor& mask);    // (H, W) int32
Tensor distance_transform(const Tensor& mask);  // its root, (H, W) float32

// Fills the holes of a mask: outside pixels that no path of outside pixels (background_connectivity) joins to the border.
Tensor fill_holes(const Tensor& mask, int background_connectivity = 4);  // (H, W) uint8
// The same per label: a background region (4-connected) that touches neither the border nor a second label gets the label.
Tensor fill_label_holes(const Tensor& labels);  // (H, W) int32

// Components (labels) of fewer than min_size pixels become background; the rest stays as it is.
Tensor remove_small_objects(const Tensor& mask, int64_t min_size, int connectivity = 8);  // (H, W) uint8
Tensor remove_small_labels(const Tensor& labels, int64_t min_size);                       // (H, W) int32

// Renumbers the labels that occur to 1, 2, ... keeping their order; `count`, if given, receives their number.
Tensor relabel(const Tensor& labels, int64_t* count = nullptr);

// Facts of label l at index l; index 0 is the background. Absent labels have 0 pixels and an empty box.
struct LabelFacts {
  int64_t pixels = 0;
  int64_t y0 = 0, x0 = 0, y1 = 0, x1 = 0;  // bounding box [y0, y1) x [x0, x1)
  double y = 0, x = 0;                     // centre of mass
};
std::vector<LabelFacts> label_facts(const Tensor& labels);  // throws DataError for a negative or a huge (> 2^26) label

// Each background pixel within `pixels` of a labelled one gets the label of the nearest; grown only where mask (if given) is
// non-zero. Distance is counted in steps, alternating 4- and 8-neighbourhoods (an octagon), the lower label wins ties.
Tensor grow_labels(const Tensor& labels, int pixels, const Tensor& mask = {});

// Local maxima of x (H, W) float32, by scikit-image's peak_local_max (p_norm infinity): a peak is the maximum of its square of
// side 2 min_distance + 1 and lies above the threshold; of peaks closer than min_distance the higher stays. With labels, each
// label is searched by itself in its bounding box. -> (P, 2) int32: y, x; highest first (with labels: label by label).
struct PeakLocalMax {
  int min_distance = 1;
  bool exclude_border = true;  // drop peaks within min_distance of the image's edge
  bool use_threshold = false;  // else the image's minimum
  float threshold = 0;
};
Tensor peak_local_max(const Tensor& x, const PeakLocalMax& op, const Tensor& labels = {});

// Floods x (H, W) float32 from the markers (H, W) int32 within mask (if given), lowest values first (NaN is above all) and first
// come first served among equals, as scikit-image's watershed, ties included; line: pixels where two basins meet stay 0.
// -> labels (H, W) int32. On the host alone; the op Watershed runs on devices, without lines and with ties of its own.
struct FirstComeWatershed {
  int connectivity = 4;
  bool line = false;
};
Tensor watershed(const Tensor& x, const Tensor& markers, const Tensor& mask = {}, const FirstComeWatershed& options = {});

}  // namespace glia
