#pragma once
// Run lengths: masks <-> Rle (data/instance.h) <-> Kaggle's pairs, COCO's counts and COCO's compressed string; areas, boxes,
// overlaps and unions without decoding. All functions equal pycocotools' where it has them.
//
// Readers take untrusted text: they throw DataError that says what was got, what was wanted and the likely cause, and allocate in
// proportion to the text and the image's declared size, which is capped (FileLimits::pixels).
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/instance.h"

namespace glia {

// How the pixels of Kaggle's pairs are numbered. Sartorius: row (left to right, then down). DSB-2018: column.
enum class PixelOrder { row, column };

Rle encode_mask(const Tensor& mask);                                    // (H, W) uint8 or bool; any non-zero value is inside
Tensor decode_mask(const Rle& rle);                                     // (H, W) uint8, 0 or 1
void paint_mask(const Rle& rle, uint8_t value, const Tensor& image);    // (H, W) uint8: sets the mask's pixels
void paint_label(const Rle& rle, int32_t label, const Tensor& labels);  // (H, W) int32

// Text of pairs "start length start length ...", start counted from 1, ascending, without overlap. "" is an empty mask.
Rle rle_from_pairs(std::string_view text, int64_t height, int64_t width, PixelOrder order = PixelOrder::row);
std::string to_pairs(const Rle& rle, PixelOrder order = PixelOrder::row);
// True when these pairs make one blob in the other pixel order and shreds in `order`: the likely sign of a swapped order.
bool other_order_fits_better(std::string_view text, int64_t height, int64_t width, PixelOrder order);

// COCO's counts (checked: not negative, adding up to height * width), and its compressed string.
Rle rle_from_counts(std::span<const int64_t> counts, int64_t height, int64_t width);
Rle rle_from_coco_string(std::string_view text, int64_t height, int64_t width);
std::string to_coco_string(const Rle& rle);

int64_t area(const Rle& rle);      // pixels
Box bounding_box(const Rle& rle);  // x, y, width, height; all 0 for an empty mask
int64_t intersection_area(const Rle& a, const Rle& b);
// Intersection over union; with `crowd`, over the area of a (b is a region to ignore). 0 where both are empty.
double iou(const Rle& a, const Rle& b, bool crowd = false);
double iou(const Box& a, const Box& b, bool crowd = false);
// One row per element of a, one column per element of b; crowd: one flag per element of b, or empty. -> (A, B) float64
Tensor pairwise_iou(std::span<const Rle> a, std::span<const Rle> b, std::span<const uint8_t> crowd = {});
enum class MergeMode { unite, intersect };
Rle merge(std::span<const Rle> masks, MergeMode mode = MergeMode::unite);  // masks of one size, at least one

// The masks of a label map (H, W) int32, by ascending label; absent labels are left out. `values`, if given, receives the labels.
// Throws DataError beyond FileLimits::instances labels.
std::vector<Rle> masks_of_labels(const Tensor& labels, std::vector<int32_t>* values = nullptr);
// Paints masks i as i + 1 in the given order: where they overlap, the later wins. -> (H, W) int32
Tensor labels_of_masks(std::span<const Rle> masks, int64_t height, int64_t width);
// The same for the instances of a sample (crowds left out, numbers kept), smaller masks on top: the loss by overlaps is least.
Tensor labels_of_instances(std::span<const Instance> instances, int64_t height, int64_t width);

}  // namespace glia
