#include "data/cellpose_seg.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "data/atomic_file.h"
#include "kernels/labels.h"

namespace glia {
namespace {

// Writes Python objects as a pickle (protocol 3): a program for a stack machine, one byte an operation.
class Pickle {
 public:
  Pickle() : out_("\x80\x03") {}
  std::string stop() && { return std::move(out_) + '.'; }

  void none() { out_ += 'N'; }
  void boolean(bool value) { out_ += value ? '\x88' : '\x89'; }
  void integer(int32_t value) { op('J', static_cast<uint32_t>(value)); }
  void real(double value) {
    out_ += 'G';
    const auto bits = std::bit_cast<uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift);  // the one big-endian thing
  }
  void text(std::string_view value) {
    op('X', static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void bytes(std::string_view value) {
    GLIA_CHECK(value.size() <= UINT32_MAX, "pickle: {} bytes, want less than 4 GB", value.size());
    op('B', static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void global(std::string_view module, std::string_view name) { out_ += fmt::format("c{}\n{}\n", module, name); }
  template <class Items>
  void tuple(const Items& items) {
    out_ += '(';
    items();
    out_ += 't';
  }
  template <class Items>
  void list(const Items& items) {
    out_ += "](";
    items();
    out_ += 'e';
  }
  template <class Items>
  void dict(const Items& items) {  // keys and values in turn
    out_ += "}(";
    items();
    out_ += 'u';
  }
  void call() { out_ += 'R'; }       // function, tuple -> result
  void set_state() { out_ += 'b'; }  // object, state -> object

 private:
  void op(char code, uint32_t value) {
    out_ += code;
    for (int shift = 0; shift < 32; shift += 8) out_ += static_cast<char>(value >> shift);
  }
  std::string out_;
};

// A NumPy array as numpy's own pickles make it; `type` such as "u2", "O8". content() is what the array holds: bytes, or a list.
template <class Content>
void put_array(Pickle& p, const std::vector<int64_t>& shape, std::string_view type, const Content& content) {
  p.global("numpy.core.multiarray", "_reconstruct");
  p.tuple([&] {
    p.global("numpy", "ndarray");
    p.tuple([&] { p.integer(0); });
    p.bytes("b");
  });
  p.call();
  p.tuple([&] {
    p.integer(1);
    p.tuple([&] {
      for (const int64_t side : shape) p.integer(static_cast<int32_t>(side));
    });
    p.global("numpy", "dtype");
    p.tuple([&] {
      p.text(type);
      p.boolean(false);
      p.boolean(true);
    });
    p.call();
    const bool object = type == "O8", single = type.ends_with('1');
    p.tuple([&] {
      p.integer(3);
      p.text(object || single ? "|" : "<");
      for (int i = 0; i < 3; ++i) p.none();
      p.integer(-1);
      p.integer(-1);
      p.integer(object ? 63 : 0);
    });
    p.set_state();
    p.boolean(false);
    content();
  });
  p.set_state();
}

std::string little_endian(const Tensor& values, int width) {
  std::string out;
  out.reserve(static_cast<size_t>(values.size() * width));
  for (const int32_t v : values.values<int32_t>())
    for (int shift = 0; shift < 8 * width; shift += 8) out += static_cast<char>(v >> shift);
  return out;
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

std::string encode_cellpose_seg(const CellposeSeg& seg) {
  const auto values = seg.labels.values<int32_t>();
  const int32_t count = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  const int width = count < 65535 ? 2 : 4;
  const std::string type = width == 2 ? "u2" : "u4";
  const std::vector<int64_t> shape{seg.labels.dim(0), seg.labels.dim(1)};
  Tensor outlines = cellpose_outlines(seg.labels).cast(DType::int32);
  for (int64_t i = 0; i < outlines.size(); ++i) outlines.data<int32_t>()[i] *= values[static_cast<size_t>(i)];

  Pickle p;
  put_array(p, {}, "O8", [&] {
    p.list([&] {
      p.dict([&] {
        p.text("outlines");
        put_array(p, shape, type, [&] { p.bytes(little_endian(outlines, width)); });
        p.text("masks");
        put_array(p, shape, type, [&] { p.bytes(little_endian(seg.labels, width)); });
        p.text("chan_choose");
        p.list([&] {
          for (const int64_t channel : seg.channels) p.integer(static_cast<int32_t>(channel));
        });
        p.text("ismanual");
        put_array(p, {count}, "b1", [&] { p.bytes(std::string(static_cast<size_t>(count), '\0')); });
        p.text("filename");
        p.text(seg.image);
        if (seg.diameter > 0) {
          p.text("est_diam");
          p.real(seg.diameter);
        }
      });
    });
  });
  std::string header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string out("\x93NUMPY");
  out += {'\x01', '\0', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return out + header + std::move(p).stop();
}

void write_cellpose_seg(const std::filesystem::path& path, const CellposeSeg& seg) { write_file(path, encode_cellpose_seg(seg)); }

}  // namespace glia
