#include "models/cellpose_seg.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

#include "data/atomic_file.h"
#include "data/draw.h"
#include "data/pickle_write.h"
#include "kernels/labels.h"
#include "models/image_input.h"

namespace glia {
namespace {

// Writes the dict, arrays in parts.
class SegWriter {
 public:
  using Sink = std::function<void(std::string)>;
  SegWriter(PickleWriter& pickle, const Sink& sink) : p_(pickle), sink_(sink) {}

  // An array whose element i, in C order, is value(i): an integer, or a float for "F32".
  template <class Value>
  void array(std::string_view type, const std::vector<int64_t>& shape, const Value& value) {
    p_.begin_numpy_array(type, shape);
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    if (type == "F32") {
      elements<float>(count, value);
    } else if (type == "U32") {
      elements<uint32_t>(count, value);
    } else if (type == "U16") {
      elements<uint16_t>(count, value);
    } else {
      elements<uint8_t>(count, value);
    }
    p_.end_numpy_array();
  }

 private:
  template <class T, class Value>
  void elements(int64_t count, const Value& value) {
    constexpr int64_t part = 1 << 16;
    std::vector<T> values;
    for (int64_t begin = 0; begin < count; begin += part) {
      values.clear();
      for (int64_t i = begin; i < std::min(begin + part, count); ++i) values.push_back(static_cast<T>(value(i)));
      p_.raw(std::as_bytes(std::span(values)));
      sink_(p_.take());
    }
  }

  PickleWriter& p_;
  const Sink& sink_;
};

// Values scaled so that their 1st percentile is 0 and their 99th 1, kept in that range; all 0 where these are closer than 1e-3
// (transforms.normalize99 of Cellpose).
class Normalized {
 public:
  explicit Normalized(Tensor values)
      : values_(std::move(values)),
        low_(static_cast<float>(percentile(values_, 0.01))),
        range_(static_cast<float>(percentile(values_, 0.99)) - low_) {}
  float operator()(int64_t i) const {
    return range_ > 1e-3f ? std::clamp((values_.data<float>()[i] - low_) / range_, 0.0f, 1.0f) : 0.0f;
  }

 private:
  Tensor values_;
  float low_, range_;
};

template <class Value>
Tensor map_of(const Tensor& maps, const Value& value) {  // of each pixel's three numbers
  Tensor result({maps.dim(0), maps.dim(1)});
  for (int64_t i = 0; i < result.size(); ++i) result.data<float>()[i] = value(maps.data<float>() + 3 * i);
  return result;
}

// What the window shows and what it makes cells of anew: the arrows' picture, the logits as a picture, nothing for the third axis, an
// empty place, and the numbers themselves.
void put_flows(PickleWriter& p, SegWriter& out, const Tensor& maps) {
  const int64_t h = maps.dim(0), w = maps.dim(1);
  p.list().begin();
  {
    const Tensor picture = cellpose_flow_picture(maps);
    out.array("U8", {1, h, w, 3}, [&](int64_t i) { return picture.data<uint8_t>()[i]; });
    const Normalized logits(map_of(maps, [](const float* at) { return at[2]; }));
    out.array("U8", {1, h, w}, [&](int64_t i) { return logits(i) * 255; });
  }
  out.array("U8", {1, h, w, 3}, [](int64_t) { return 0; });
  p.list();
  out.array("F32", {3, h, w}, [&](int64_t i) { return maps.data<float>()[i % (h * w) * 3 + i / (h * w)]; });
  p.append_items();
}

void write_seg(const CellposeSeg& seg, const SegWriter::Sink& sink) {
  const auto values = seg.labels.values<int32_t>();
  const int32_t count = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  const std::string_view type = count < 65535 ? "U16" : "U32";
  const std::vector<int64_t> shape{seg.labels.dim(0), seg.labels.dim(1)};
  GLIA_CHECK(!seg.maps || seg.maps.shape() == Shape({shape[0], shape[1], 3}), "_seg.npy: maps {} for labels {}", seg.maps.shape(),
             seg.labels.shape());
  const auto content = [&](PickleWriter& p) {
    SegWriter out(p, sink);
    p.dict().begin().text("outlines");
    {
      const Tensor outlines = cellpose_outlines(seg.labels);
      out.array(type, shape, [&](int64_t i) { return outlines.data<uint8_t>()[i] ? values[static_cast<size_t>(i)] : 0; });
    }
    p.text("masks");
    out.array(type, shape, [&](int64_t i) { return values[static_cast<size_t>(i)]; });
    p.text("colors");
    out.array("U8", {count, 3}, [&](int64_t i) {
      const Color color = distinct_color(i / 3);
      return i % 3 == 0 ? color.r : i % 3 == 1 ? color.g : color.b;
    });
    p.text("chan_choose").list().begin().integer(seg.channels[0]).integer(seg.channels[1]).append_items();
    p.text("ismanual");
    out.array("BOOL", {count}, [](int64_t) { return 0; });
    p.text("filename").text(seg.image);
    if (seg.maps) {
      p.text("flows");
      put_flows(p, out, seg.maps);
    }
    if (seg.diameter > 0) p.text("diameter").real(seg.diameter).text("est_diam").real(seg.diameter);
    p.set_items();
  };
  write_numpy_object(content, sink);
}

}  // namespace

Tensor cellpose_outlines(const Tensor& labels) {
  Tensor outlines = Tensor::zeros(labels.shape(), DType::uint8);
  const std::vector<LabelFacts> facts = label_facts(labels);
  for (size_t label = 1; label < facts.size(); ++label) {
    const LabelFacts& f = facts[label];
    const int64_t h = f.y1 - f.y0, w = f.x1 - f.x0;
    if (f.pixels == 0) continue;
    Tensor mask({h, w}, DType::uint8);
    for (int64_t i = 0; i < h * w; ++i)
      mask.data<uint8_t>()[i] =
          labels.data<int32_t>()[(f.y0 + i / w) * labels.dim(1) + f.x0 + i % w] == static_cast<int32_t>(label);
    mask = fill_holes(mask, 4);
    const auto inside = [&](int64_t y, int64_t x) {
      return y >= 0 && y < h && x >= 0 && x < w && mask.data<uint8_t>()[y * w + x] != 0;
    };
    for (int64_t i = 0; i < h * w; ++i) {
      const int64_t y = i / w, x = i % w;
      if (inside(y, x) && !(inside(y - 1, x) && inside(y + 1, x) && inside(y, x - 1) && inside(y, x + 1)))
        outlines.data<uint8_t>()[(f.y0 + y) * labels.dim(1) + f.x0 + x] = 1;
    }
  }
  return outlines;
}

Tensor cellpose_flow_picture(const Tensor& maps) {
  const Normalized length(map_of(maps, [](const float* at) { return std::sqrt(at[0] * at[0] + at[1] * at[1]); }));
  constexpr auto pi = std::numbers::pi_v<float>;
  Tensor picture({maps.dim(0), maps.dim(1), 3}, DType::uint8);
  for (int64_t i = 0; i < maps.dim(0) * maps.dim(1); ++i) {
    const float* at = maps.data<float>() + 3 * i;
    const float brightness = length(i) * 255 / 2, angle = std::atan2(at[1], at[0]) + pi;
    for (int c = 0; c < 3; ++c)
      picture.data<uint8_t>()[3 * i + c] =
          static_cast<uint8_t>(std::clamp(brightness * (std::cos(angle + float(2 * c) * pi / 3) + 1), 0.0f, 255.0f));
  }
  return picture;
}

std::string encode_cellpose_seg(const CellposeSeg& seg) {
  std::string file;
  write_seg(seg, [&](const std::string& part) { file += part; });
  return file;
}

void write_cellpose_seg(const std::filesystem::path& path, const CellposeSeg& seg) {
  AtomicFile file(path);
  write_seg(seg, [&](const std::string& part) { file.write(part); });
  file.commit();
}

}  // namespace glia
