#pragma once
// Images on their way into Cellpose's network and its maps on their way out, equal to Cellpose 3: normalisation by percentiles,
// tiles that overlap and are blended with a taper, test-time augmentation by flips, resizing so that cells have the diameter that
// the network was trained at.
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

struct CellposeNormalization {
  std::array<double, 2> percentiles{1, 99};  // of the image, become 0 and 1
  std::array<double, 2> low_high{0, 0};      // where low < high: these values become 0 and 1 instead
  bool invert = false;                       // 1 - the result
  int64_t block = 0;  // above 0: percentiles of overlapping blocks of this many pixels, smoothed down the rows of blocks;
                      // those of the first row serve all (as in Cellpose 3, so light may fall off from side to side only)
};

// x (H, W, C) float32 -> the same, each channel by itself. A constant channel stays as it is, also inverted (but for `block`). In
// images of more than 224^3 pixels the percentiles are those of every (side / 224)th row and column. DataError for NaN and
// infinities.
Tensor cellpose_normalized(const Tensor& x, const CellposeNormalization& how);

// Tiles along one axis of `size` pixels: starts, and how long each is.
struct CellposeTiles {
  int64_t length = 0;
  std::vector<int64_t> starts;
};
// overlap: part of a tile that neighbours share, from .05 to .5; taken into that range. augment: tiles overlap by half and there
// are two at least; `size` is at least `tile` then (the image is padded).
CellposeTiles cellpose_tiles(int64_t size, int64_t tile, double overlap, bool augment);

// Weights of a tile's rows and columns: close to 1 in the middle, falling within 20 pixels of the edges. A tile's weight is their
// product. height, width of the tile: a smaller one than 224 has the central part of the weights of 224.
struct CellposeTaper {
  std::vector<double> rows, columns;
};
CellposeTaper cellpose_taper(int64_t height, int64_t width);

// Maps of a tile (h, w, 3) that was flipped before the network saw it, as they are of the tile itself: flipped back, the flow's
// sign too.
enum class CellposeFlip { none, y, x, both };
CellposeFlip cellpose_flip(int64_t row, int64_t column);  // of the tile in this row and column of tiles, under augmentation
Tensor cellpose_flipped(const Tensor& tile, CellposeFlip flip, bool is_flow);

// The size of an image in front of the network: int(side * rescale), at least 1.
std::array<int64_t, 2> cellpose_network_size(int64_t height, int64_t width, double rescale);

struct CellposeTiling {
  int64_t tile = 224;
  double overlap = 0.1;
  bool augment = false;
  int64_t batch_size = 8;
};

// Runs the network over an image x (H, W, C) that is seen at `rescale` times its size. `network` takes tiles (N, h, w, C) and
// returns their maps (N, h, w, 3). The maps come at the network's size, row by row: rows(first, maps (n, W', 3)), each row once,
// from the top down. So memory is that of a row of tiles. Pixels between those of x are bilinear (half-pixel centres); around the
// image are zeros, to sides of multiples of 16 with 8 pixels at least.
void cellpose_run(const Tensor& x, double rescale, const CellposeTiling& tiling,
                  const std::function<Tensor(const Tensor& tiles)>& network,
                  const std::function<void(int64_t first, const Tensor& rows)>& rows);

// The same, all rows at once: (H', W', 3).
Tensor cellpose_maps(const Tensor& x, double rescale, const CellposeTiling& tiling,
                     const std::function<Tensor(const Tensor& tiles)>& network);

// The same resized to the image's own size (bilinear), (H, W, 3), with no more of the network's size in memory than a row of
// tiles.
Tensor cellpose_maps_resampled(const Tensor& x, double rescale, const CellposeTiling& tiling,
                               const std::function<Tensor(const Tensor& tiles)>& network);

}  // namespace glia
