#include "data/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/font.h"
#include "data/image_ops.h"
#include "data/image_resize.h"
#include "data/rle.h"
#include "kernels/labels.h"

namespace glia {
namespace {

void check_picture(const Tensor& picture, const char* what) {
  GLIA_CHECK(picture.rank() == 3 && picture.dim(2) == 3 && picture.dtype() == DType::uint8,
             "{}: a picture {} of {}, want (H, W, 3) uint8", what, picture.shape(), name_of(picture.dtype()));
}

uint8_t mix(uint8_t under, uint8_t over, double opacity) {
  return static_cast<uint8_t>(std::lround(under + opacity * (double(over) - under)));
}

void blend(uint8_t* pixel, Color color, double opacity) {
  pixel[0] = mix(pixel[0], color.r, opacity);
  pixel[1] = mix(pixel[1], color.g, opacity);
  pixel[2] = mix(pixel[2], color.b, opacity);
}

double percentile(std::vector<float>& values, double share) {
  const auto at = values.begin() + std::ptrdiff_t(share * double(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return double(*at);
}

// Linear from [low, high] to [0, 255]. Percentiles come from at most a million pixels.
Tensor stretched(const Tensor& gray) {  // (H, W) float32
  Tensor result = Tensor::zeros(gray.shape(), DType::uint8);
  std::vector<float> sample;
  const int64_t step = gray.size() / 1'000'000 + 1;
  for (int64_t i = 0; i < gray.size(); i += step)
    if (std::isfinite(gray.data<float>()[i])) sample.push_back(gray.data<float>()[i]);
  if (sample.empty()) return result;
  const double low = percentile(sample, 0.001), high = percentile(sample, 0.999), scale = high > low ? 255 / (high - low) : 0;
  for (int64_t i = 0; i < gray.size(); ++i) {
    const double v = (double(gray.data<float>()[i]) - low) * scale;
    result.data<uint8_t>()[i] = v > 0 ? static_cast<uint8_t>(std::lround(std::min(v, 255.))) : uint8_t(0);
  }
  return result;
}

Rle zoomed(const Rle& mask, int zoom) {
  if (zoom == 1) return mask;
  Rle big{mask.height * zoom, mask.width * zoom, {}};
  return encode_mask(resize_labels(decode_mask(mask), big.height, big.width));
}

Tensor zoomed_picture(const Tensor& image, int zoom) {
  const Tensor picture = to_picture(image);
  if (zoom > 1) return resize_image(picture, picture.dim(0) * zoom, picture.dim(1) * zoom, ResizeMethod::pillow_bicubic);
  return picture;
}

}  // namespace

Color distinct_color(int64_t index) {
  const double hue = std::fmod(double(index) * 0.61803398875 + 0.55, 1.0) * 6;
  const double light = index % 3 == 0 ? 0.62 : index % 3 == 1 ? 0.52 : 0.70, chroma = (1 - std::abs(2 * light - 1)) * 0.95;
  const auto channel = [&](double shift) {  // HSL
    const double h = std::fmod(hue + shift, 6.0), part = std::clamp(std::abs(h - 3) - 1, 0.0, 1.0);
    return static_cast<uint8_t>(std::lround(255 * (light + chroma * (part - 0.5))));
  };
  return {channel(0), channel(4), channel(2)};
}

Tensor to_picture(const Tensor& image, bool stretch) {
  GLIA_CHECK(image.rank() == 2 || image.rank() == 3, "to_picture: an image {}, want (H, W) or (H, W, C)", image.shape());
  const int64_t h = image.dim(0), w = image.dim(1), channels = image.rank() == 3 ? image.dim(2) : 1;
  const bool color = channels == 3 || channels == 4;
  if (image.dtype() == DType::uint8 && (color || (channels == 1 && !stretch))) return gray_to_rgb(image);
  Tensor first({h, w});
  const Tensor values = image.cast(DType::float32);
  for (int64_t i = 0; i < h * w; ++i) {
    const float* p = values.data<float>() + i * channels;
    first.data<float>()[i] = channels == 0 ? 0.f : color ? (p[0] + p[1] + p[2]) / 3 : p[0];
  }
  return gray_to_rgb(stretched(first));
}

void fill_rectangle(const Tensor& picture, int64_t x, int64_t y, int64_t width, int64_t height, Color color, double opacity) {
  check_picture(picture, "fill_rectangle");
  const int64_t w = picture.dim(1);
  for (int64_t r = std::max<int64_t>(0, y); r < std::min(picture.dim(0), y + height); ++r)
    for (int64_t c = std::max<int64_t>(0, x); c < std::min(w, x + width); ++c)
      blend(picture.data<uint8_t>() + (r * w + c) * 3, color, opacity);
}

void draw_line(const Tensor& picture, double x0, double y0, double x1, double y1, Color color, double width) {
  check_picture(picture, "draw_line");
  const int64_t h = picture.dim(0), w = picture.dim(1);
  const double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy, reach = width / 2 + 1;
  const auto low = [reach](double a, double b) { return std::max<int64_t>(0, int64_t(std::floor(std::min(a, b) - reach))); };
  const auto high = [reach](double a, double b, int64_t n) {
    return std::min(n - 1, int64_t(std::ceil(std::max(a, b) + reach)));
  };
  for (int64_t r = low(y0, y1); r <= high(y0, y1, h); ++r) {
    for (int64_t c = low(x0, x1); c <= high(x0, x1, w); ++c) {
      const double px = double(c) - x0, py = double(r) - y0;
      const double t = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0, 1.0) : 0;
      const double distance = std::hypot(px - t * dx, py - t * dy), cover = std::clamp(width / 2 + .5 - distance, 0.0, 1.0);
      if (cover > 0) blend(picture.data<uint8_t>() + (r * w + c) * 3, color, cover);
    }
  }
}

TextSize text_size(std::string_view text, int scale) {
  int64_t lines = 1, column = 0, widest = 0;
  for (const char c : text) {
    column = c == '\n' ? 0 : column + 1;
    lines += c == '\n';
    widest = std::max(widest, column);
  }
  if (widest == 0) return {0, lines * (glyph_height + 1) * scale};
  return {(widest * glyph_advance - 1) * scale, (lines * (glyph_height + 1) - 1) * scale};
}

void draw_text(const Tensor& picture, int64_t x, int64_t y, std::string_view text, Color color, int scale) {
  int64_t left = x;
  for (const char c : text) {
    if (c == '\n') {
      left = x;
      y += (glyph_height + 1) * scale;
      continue;
    }
    const auto& rows = glyph(c);
    for (int r = 0; r < glyph_height; ++r)
      for (int k = 0; k < glyph_width; ++k)
        if (rows[size_t(r)] >> (glyph_width - 1 - k) & 1)
          fill_rectangle(picture, left + k * scale, y + r * scale, scale, scale, color);
    left += glyph_advance * scale;
  }
}

std::string fit_text(std::string_view text, int64_t width, int scale) {
  if (text_size(text, scale).width <= width) return std::string(text);
  const int64_t room = width / (glyph_advance * scale);
  if (room <= 3) return std::string(text.substr(0, size_t(std::max<int64_t>(0, room))));
  std::string kept(text.substr(0, size_t(room - 3)));
  while (!kept.empty() && kept.back() == ' ') kept.pop_back();
  return kept + "...";
}

void draw_mask(const Tensor& picture, const Rle& mask, Color color, const OutlineStyle& style) {
  check_picture(picture, "draw_mask");
  GLIA_CHECK(mask.height == picture.dim(0) && mask.width == picture.dim(1), "draw_mask: a mask of {} x {} on a picture {}",
             mask.height, mask.width, picture.shape());
  const Box box = bounding_box(mask);
  const auto x0 = int64_t(box[0]), y0 = int64_t(box[1]), w = int64_t(box[2]), h = int64_t(box[3]);
  if (w == 0) return;
  // The mask inside its box, with a frame of one outside pixel.
  Tensor inside = Tensor::zeros({h + 2, w + 2}, DType::uint8);
  for (int64_t p = 0, i = 0; i < int64_t(mask.counts.size()); p += mask.counts[size_t(i)], ++i) {
    if (i % 2 == 0) continue;
    for (int64_t q = p; q < p + int64_t(mask.counts[size_t(i)]); ++q)
      inside.data<uint8_t>()[(q % mask.height - y0 + 1) * (w + 2) + q / mask.height - x0 + 1] = 1;
  }
  const Tensor depth = squared_distance(inside);
  const int32_t edge = style.thickness * style.thickness;
  for (int64_t r = 0; r < h; ++r) {
    for (int64_t c = 0; c < w; ++c) {
      const int32_t d = depth.data<int32_t>()[(r + 1) * (w + 2) + c + 1];
      if (d == 0) continue;
      const double opacity = d <= edge ? style.opacity : style.fill;
      if (opacity > 0) blend(picture.data<uint8_t>() + ((y0 + r) * picture.dim(1) + x0 + c) * 3, color, opacity);
    }
  }
}

Tensor overlay(const Tensor& image, std::span<const Instance> instances, const OutlineStyle& style, int zoom) {
  const Tensor picture = zoomed_picture(image, zoom);
  for (size_t i = 0; i < instances.size(); ++i)
    draw_mask(picture, zoomed(instances[i].mask, zoom), distinct_color(int64_t(i)), style);
  return picture;
}

Tensor overlay_matches(const Tensor& image, std::span<const Instance> truth, std::span<const Instance> predictions,
                       std::span<const int32_t> prediction_of, std::span<const int32_t> truth_of, const OutlineStyle& style,
                       int zoom) {
  GLIA_CHECK(prediction_of.size() == truth.size() && truth_of.size() == predictions.size(),
             "overlay_matches: partners of {} and {} for {} true and {} predicted instances", prediction_of.size(),
             truth_of.size(), truth.size(), predictions.size());
  const Tensor picture = zoomed_picture(image, zoom);
  for (size_t i = 0; i < truth.size(); ++i)
    if (prediction_of[i] < 0 && !truth[i].crowd) draw_mask(picture, zoomed(truth[i].mask, zoom), colors::false_negative, style);
  for (size_t i = 0; i < predictions.size(); ++i)
    draw_mask(picture, zoomed(predictions[i].mask, zoom), truth_of[i] < 0 ? colors::false_positive : colors::true_positive,
              style);
  return picture;
}

void draw_scores(const Tensor& picture, std::span<const Instance> instances) {
  check_picture(picture, "draw_scores");
  for (const Instance& i : instances) {
    const Box box = bounding_box(i.mask);
    if (box[2] == 0) continue;
    const double zoom = double(picture.dim(1)) / double(i.mask.width);
    std::string text = fmt::format("{:.2f}", i.score);
    if (text.starts_with("0.")) text.erase(0, 1);
    const TextSize size = text_size(text);
    const auto x = std::lround(zoom * (box[0] + box[2] / 2) - double(size.width) / 2),
               y = std::lround(zoom * (box[1] + box[3] / 2) - double(size.height) / 2);
    fill_rectangle(picture, x - 1, y - 1, size.width + 2, glyph_ascent + 2, colors::black, 0.55);
    draw_text(picture, x, y, text, colors::white);
  }
}

Tensor color_labels(const Tensor& labels) {
  GLIA_CHECK(labels.rank() == 2, "color_labels: labels {}, want (H, W)", labels.shape());
  Tensor picture = Tensor::zeros({labels.dim(0), labels.dim(1), 3}, DType::uint8);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int32_t label = labels.data<int32_t>()[i];
    if (label > 0) blend(picture.data<uint8_t>() + 3 * i, distinct_color(label - 1), 1);
  }
  return picture;
}

Tensor scale_to_fit(const Tensor& picture, int64_t max_height, int64_t max_width) {
  const int64_t h = picture.dim(0), w = picture.dim(1);
  if (h == 0 || w == 0) return picture;
  const double factor = std::min(double(max_height) / double(h), double(max_width) / double(w));
  if (factor >= 2) {
    const auto whole = int64_t(factor);
    return resize_image(picture, h * whole, w * whole, ResizeMethod::nearest_centre);
  }
  if (factor >= 1) return picture;
  const auto scaled = [factor](int64_t n) { return std::max<int64_t>(1, std::lround(double(n) * factor)); };
  return resize_image(picture, scaled(h), scaled(w), ResizeMethod::opencv_area);
}

Tensor mosaic(std::span<const Panel> panels, const MosaicStyle& style) {
  const auto n = int64_t(panels.size());
  const int64_t columns =
      std::max<int64_t>(1, style.columns > 0 ? std::min<int64_t>(style.columns, n) : int64_t(std::ceil(std::sqrt(double(n)))));
  const int64_t rows = (n + columns - 1) / columns;
  std::vector<Tensor> pictures;
  std::vector<int64_t> heights(size_t(rows), 0), widths(size_t(columns), 0);
  bool captions = false;
  for (int64_t i = 0; i < n; ++i) {
    pictures.push_back(scale_to_fit(panels[size_t(i)].picture, style.panel_height, style.panel_width));
    auto& h = heights[size_t(i / columns)];
    auto& w = widths[size_t(i % columns)];
    h = std::max(h, pictures.back().dim(0));
    w = std::max(w, pictures.back().dim(1));
    captions = captions || !panels[size_t(i)].caption.empty();
  }
  const int64_t line = (glyph_height + 1) * style.text_scale, caption = captions ? line + style.gap / 2 : 0;
  const int64_t title = style.title.empty() ? 0 : line + style.gap;
  int64_t height = style.gap + title, width = style.gap;
  for (const int64_t h : heights) height += caption + h + style.gap;
  for (const int64_t w : widths) width += w + style.gap;
  Tensor result({height, width, 3}, DType::uint8);
  fill_rectangle(result, 0, 0, width, height, style.background);
  if (title)
    draw_text(result, style.gap, style.gap, fit_text(style.title, width - 2 * style.gap, style.text_scale), style.text,
              style.text_scale);
  int64_t y = style.gap + title;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t x = style.gap;
    for (int64_t c = 0; c < columns && r * columns + c < n; ++c) {
      const auto i = size_t(r * columns + c);
      const int64_t cell = widths[size_t(c)], ph = pictures[i].dim(0), pw = pictures[i].dim(1);
      const std::string text = fit_text(panels[i].caption, cell, style.text_scale);
      draw_text(result, x, y, text, style.text, style.text_scale);
      const int64_t top = y + caption + (heights[size_t(r)] - ph) / 2, left = x + (cell - pw) / 2;
      for (int64_t k = 0; k < ph; ++k)
        copy_bytes(result.data<uint8_t>() + ((top + k) * width + left) * 3, pictures[i].data<uint8_t>() + k * pw * 3,
                   size_t(pw * 3));
      x += cell + style.gap;
    }
    y += caption + heights[size_t(r)] + style.gap;
  }
  return result;
}

}  // namespace glia
