#pragma once
// Pictures of images with their instances: outlines, matches, captions, mosaics. Pictures are (H, W, 3) uint8 and are painted in
// place; whatever falls outside is left out.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/instance.h"

namespace glia {

struct Color {
  uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};

namespace colors {
inline constexpr Color black{0, 0, 0}, white{255, 255, 255}, gray{128, 128, 128};
inline constexpr Color true_positive{66, 214, 96}, false_positive{255, 84, 72}, false_negative{88, 166, 255};
}  // namespace colors

// Colours that neighbours in a list tell apart: hues by the golden angle, alternating in lightness.
Color distinct_color(int64_t index);

// Any image (H, W) or (H, W, C) as a picture: uint8 gray, RGB, RGBA as they are; other types, and images of other numbers of
// channels (the first counts), from their 0.1th to their 99.9th percentile. stretch does that for uint8 as well.
Tensor to_picture(const Tensor& image, bool stretch = false);

void fill_rectangle(const Tensor& picture, int64_t x, int64_t y, int64_t width, int64_t height, Color color, double opacity = 1);
void draw_line(const Tensor& picture, double x0, double y0, double x1, double y1, Color color, double width = 1);  // smooth

// Text in the embedded font, its top left corner at (x, y); '\n' starts a line. `scale` is in pixels per dot.
struct TextSize {
  int64_t width = 0, height = 0;
};
TextSize text_size(std::string_view text, int scale = 1);
void draw_text(const Tensor& picture, int64_t x, int64_t y, std::string_view text, Color color, int scale = 1);
// The longest beginning of the text that fits, closed by "..." when something is missing.
std::string fit_text(std::string_view text, int64_t width, int scale = 1);

struct OutlineStyle {
  int thickness = 1;   // pixels, inward from the edge of the mask
  double opacity = 1;  // of the outline
  double fill = 0;     // opacity of the inside
};
void draw_mask(const Tensor& picture, const Rle& mask, Color color, const OutlineStyle& style = {});

// A picture of the image with the outlines of the instances in distinct colours. `zoom` enlarges the image first (whole number).
Tensor overlay(const Tensor& image, std::span<const Instance> instances, const OutlineStyle& style = {.fill = 0.15},
               int zoom = 1);

// Truth against prediction: matched predictions green (TP), other predictions red (FP), missed objects blue (FN). prediction_of and
// truth_of are partners by index or -1, as train/metrics' Matching.
Tensor overlay_matches(const Tensor& image, std::span<const Instance> truth, std::span<const Instance> predictions,
                       std::span<const int32_t> prediction_of, std::span<const int32_t> truth_of,
                       const OutlineStyle& style = {.fill = 0.15}, int zoom = 1);

// Each instance's score, such as ".87", on the middle of its box. The picture may be the image enlarged.
void draw_scores(const Tensor& picture, std::span<const Instance> instances);

// A label map (H, W) int32 in distinct colours on black.
Tensor color_labels(const Tensor& labels);

// Shrinks a picture (area averages) so that it fits, keeping its proportions; small ones are enlarged by whole numbers.
Tensor scale_to_fit(const Tensor& picture, int64_t max_height, int64_t max_width);

struct Panel {
  Tensor picture;
  std::string caption;  // may be empty
};
struct MosaicStyle {
  int columns = 0;  // 0: as square as may be
  int64_t panel_height = 480, panel_width = 640;
  int64_t gap = 8;
  int text_scale = 2;
  Color background{24, 26, 31}, text{225, 228, 232};
  std::string title{};
};
// Panels in rows, each scaled to fit and centred in its cell, with its caption above.
Tensor mosaic(std::span<const Panel> panels, const MosaicStyle& style = {});

}  // namespace glia
