#pragma once
// NAME_seg.npy: the file in which Cellpose's window keeps the cells of an image, to be looked at and corrected there. A NumPy
// file of one Python object, a dict; what np.load(..., allow_pickle=True).item() gives: masks, outlines, ismanual, chan_choose,
// filename and, where it is known, est_diam. Flows are not in it: the window does without them.
#include <array>
#include <filesystem>
#include <string>

#include "tensor/tensor.h"

namespace glia {

struct CellposeSeg {
  Tensor labels;                          // (H, W) int32, 1 to n without gaps
  std::array<int64_t, 2> channels{0, 0};  // chan, chan2: 0 gray, 1 red, 2 green, 3 blue
  std::string image;                      // file name, beside which the window looks
  double diameter = 0;                    // in pixels; 0: not known
};
std::string encode_cellpose_seg(const CellposeSeg& seg);
void write_cellpose_seg(const std::filesystem::path& path, const CellposeSeg& seg);  // IoError

// The pixels of labels that touch what is outside of them, holes left aside (utils.masks_to_outlines of Cellpose) -> (H, W)
// uint8, 0 or 1.
Tensor cellpose_outlines(const Tensor& labels);

}  // namespace glia
