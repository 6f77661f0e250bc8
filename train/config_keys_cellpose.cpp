// The keys of model.name = "cellpose" alone.
#include "train/config_keys.h"

namespace glia {

void add_cellpose_keys(std::vector<ConfigKey>& keys) {
  using C = CellposeConfig;
  constexpr auto s = &Config::cellpose;
  constexpr double big = 1e9;
  const AllowedValues any{};
  const size_t first = keys.size();
  keys.insert(
      keys.end(),
      {row("cellpose.base_channels", s, &C::base_channels, between(1, 1024),
           "channels of the first level; each deeper one doubles"),
       row("cellpose.chan", s, &C::chan, between(0, 3),
           "what is segmented: 0 gray (the mean of the channels), 1 red, 2 green, 3 blue"),
       row("cellpose.chan2", s, &C::chan2, between(0, 3), "channel of the nuclei: 0 none, 1 red, 2 green, 3 blue"),
       row("cellpose.norm_percentile", s, &C::norm_percentile, between(0, 100), "percentiles of the image that become 0 and 1"),
       row("cellpose.low_high", s, &C::low_high, between(-1e12, 1e12),
           "pixel values that become 0 and 1, instead of percentiles; []: none"),
       row("cellpose.tile_norm", s, &C::tile_norm, between(0, 65536),
           "percentiles of overlapping blocks of this many pixels, for light that falls off from side to side; 0: of the whole "
           "image"),
       row("cellpose.invert", s, &C::invert, any, "dark cells on bright ground become bright cells"),
       row("cellpose.diam_mean", s, &C::diam_mean, between(5, 1000),
           "diameter of cells in pixels as the network sees them (Cellpose: 30, nuclei 17); init.weights bring their own"),
       free(row("cellpose.diameter", s, &C::diameter, between(0, 1e5),
                "prediction: diameter of cells in the image in pixels; 0: the mean of the training images'; \"auto\": estimated "
                "for each "
                "image by the size model (glia size-model)")),
       row("cellpose.crop", s, &C::crop, between(8, 4096), "training: size of the windows, N or [H, W]; multiples of 8"),
       row("cellpose.scale_range", s, &C::scale_range, between(0, 1.9), "training: cells are scaled by 1 - r/2 to 1 + r/2"),
       row("cellpose.min_train_masks", s, &C::min_train_masks, between(0, big), "training images with fewer cells are left out"),
       free(row("cellpose.tile", s, &C::tile, between(16, 8192), "prediction: size of the tiles, a multiple of 16")),
       free(row("cellpose.tile_overlap", s, &C::tile_overlap, between(0.05, 0.5), "part of a tile that neighbours share")),
       free(row("cellpose.tile_batch", s, &C::tile_batch, between(1, 4096), "tiles that go through the network at once")),
       free(row("cellpose.augment", s, &C::augment, any,
                "prediction: tiles that overlap by half, flipped in turn; four times the work")),
       free(row("cellpose.resample", s, &C::resample, any,
                "follow the flows at the image's size; false: at the size that the network sees")),
       free(row("cellpose.niter", s, &C::niter, between(0, 100000),
                "steps along the flows; 0: until the pixels have arrived, 1000 at most")),
       free(
           row("cellpose.interpolate", s, &C::interpolate, any, "flows between pixels are bilinear; false: the nearest pixel's")),
       free(row("cellpose.cellprob_threshold", s, &C::cellprob_threshold, between(-100, 100),
                "pixels of a higher logit are cell; lower it to find more and larger cells (-6 to 6)")),
       free(row("cellpose.flow_threshold", s, &C::flow_threshold, between(0, 1000),
                "cells whose flows differ more from the network's are dropped; 0: none")),
       free(row("cellpose.max_size_fraction", s, &C::max_size_fraction, between(0, 1),
                "larger cells, as a part of the image, are dropped")),
       free(row("cellpose.min_size", s, &C::min_size, between(-1, big), "cells of fewer pixels are dropped"))});
  for (size_t i = first; i < keys.size(); ++i) keys[i].system = "cellpose";
}

}  // namespace glia
