#pragma once
// NAME_seg.npy: the file in which Cellpose's window keeps the cells of an image, to be looked at and corrected there. A NumPy
// file of one Python object, a dict; what np.load(..., allow_pickle=True).item() gives is what io.masks_flows_to_seg of Cellpose 3
// writes, and what its window adds: masks, outlines, colors, ismanual, chan_choose, filename, flows and, where they are known,
// diameter and est_diam.
#include <array>
#include <filesystem>
#include <string>

#include "tensor/tensor.h"

namespace glia {

struct CellposeSeg {
  Tensor labels;  // (H, W) int32, 1 to n without gaps
  Tensor
      maps;  // (H, W, 3) float32 of the network: 5 flow along y and x, logit of "cell"; absent: no flows, which the window does without
  std::array<int64_t, 2> channels{0, 0};  // chan, chan2: 0 gray, 1 red, 2 green, 3 blue
  std::string image;                      // file name, beside which the window looks
  double diameter = 0;                    // in pixels; 0: not known
};
std::string encode_cellpose_seg(const CellposeSeg& seg);
void write_cellpose_seg(const std::filesystem::path& path,
                        const CellposeSeg& seg);  // in parts, so that large images fit; IoError

// The pixels of labels that touch what is outside of them, holes left aside (utils.masks_to_outlines of Cellpose) -> (H, W)
// uint8, 0 or 1.
Tensor cellpose_outlines(const Tensor& labels);

// maps (H, W, 3) -> (H, W, 3) uint8: an arrow's direction as a hue, its length as brightness (plot.dx_to_circ of Cellpose).
Tensor cellpose_flow_picture(const Tensor& maps);

}  // namespace glia
