// NumPy arrays; see the header. The header of an array is a Python dictionary, of which only the form NumPy writes is read.
#include "data/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "data/safetensors_header.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr std::string_view magic{"\x93NUMPY", 6};
constexpr uint64_t max_header = 65'536;  // bytes; NumPy itself warns above 10,000

struct Header {
  char order = '|';  // '<', '>', '=' or '|'
  char kind = 0;     // b, i, u, f; O: Python objects
  size_t bytes = 0;  // of an element
  bool fortran = false;
  std::vector<int64_t> shape;
};

// Parser of {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Header parse() {
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        element_type();
      } else if (key == "fortran_order" && !order) {
        order = true;
        header_.fortran = truth();
      } else if (key == "shape" && !shape) {
        shape = true;
        dimensions();
      } else {
        fail("an unexpected key");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    spaces();
    if (at_ != text_.size()) fail("text after the dictionary");
    if (!descr || !order || !shape) fail("descr, fortran_order or shape is missing");
    return header_;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw DataError("{}: damaged NumPy array: {} (header, character {})", name_, what, at_);
  }
  void spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail("a bracket, colon or comma is missing");
  }
  std::string_view quoted() {
    spaces();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) fail("a quoted text is missing");
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == text_.npos) fail("a quote is not closed");
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }
  bool truth() {
    spaces();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return word == "True";
    }
    fail("fortran_order is neither True nor False");
  }
  void dimensions() {
    expect('(');
    while (!accept(')')) {
      int64_t n = -1;
      spaces();
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
      if (error != std::errc{} || n < 0 || (n != 0 && text_[at_] == '0'))  // Python has no numbers with zeros in front
        fail("a dimension that is no number from 0");
      at_ = static_cast<size_t>(end - text_.data());
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2
      if (header_.shape.size() == 32) fail("more than 32 dimensions");
      header_.shape.push_back(n);
      if (!accept(',')) {
        expect(')');
        if (header_.shape.size() == 1) fail("one dimension wants a comma behind it, as in (3,)");
        break;
      }
    }
  }
  void element_type() {
    spaces();
    if (at_ < text_.size() && text_[at_] == '[') throw DataError("{}: a NumPy array of structures is not supported", name_);
    std::string_view type = quoted();
    const std::string_view whole = type;
    if (!type.empty() && std::string_view("<>=|").find(type[0]) != type.npos) {
      header_.order = type[0];
      type.remove_prefix(1);
    }
    if (type.starts_with('O')) {
      header_.kind = 'O';
      return;
    }
    static constexpr std::string_view known[] = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"};
    if (std::find(std::begin(known), std::end(known), type) == std::end(known))
      throw DataError("{}: NumPy's element type \"{}\" is not supported; save bool, int, uint or float32", name_, whole);
    header_.kind = type[0];
    header_.bytes = static_cast<size_t>(type[1] - '0');
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
  Header header_;
};

// safetensors' name of the element type.
std::string stored_type(const Header& h) {
  if (h.kind == 'b') return "BOOL";
  return static_cast<char>(h.kind - 'a' + 'A') + std::to_string(8 * h.bytes);
}

}  // namespace

namespace {

DataError damaged(const std::string& name, std::string_view what, size_t at, size_t size) {
  return DataError("{}: damaged NumPy array: {} (at byte {} of {})", name, what, at, size);
}

size_t text_begin(int version) { return version == 1 ? 10 : 12; }
uint64_t text_length(std::span<const std::byte> bytes, size_t begin) {
  uint64_t length = 0;
  for (size_t i = begin; i-- > 8;) length = length << 8 | std::to_integer<uint64_t>(bytes[i]);
  return length;
}

// The header, and where the data begin.
std::pair<Header, size_t> parse_header(std::span<const std::byte> bytes, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto fail = [&](std::string_view what, size_t at) { return damaged(name, what, at, bytes.size()); };
  if (!text.starts_with(magic)) throw fail(text.empty() ? "the file is empty" : "it does not begin with \\x93NUMPY", 0);
  if (text.size() < 10) throw fail("the header is cut off", text.size());
  const int version = text[6];
  if (version < 1 || version > 3 || text[7] != 0)
    throw DataError("{}: version {} of NumPy's format is not supported", name, version);
  const size_t begin = text_begin(version);
  if (text.size() < begin) throw fail("the header is cut off", text.size());
  const uint64_t length = text_length(bytes, begin);
  if (length > max_header) throw fail(fmt::format("a header of {} bytes, at most {} are allowed", length, max_header), 8);
  if (length > bytes.size() - begin) throw fail("the header is cut off", text.size());
  return {HeaderParser(text.substr(begin, length), name).parse(), begin + length};
}

}  // namespace

std::optional<size_t> npy_object(std::span<const std::byte> bytes, const std::string& name) {
  const auto [header, begin] = parse_header(bytes, name);
  return header.kind == 'O' && header.shape.empty() ? std::optional(begin) : std::nullopt;
}

size_t npy_header_size(std::span<const std::byte> first) {
  if (first.size() < 12) return 12;
  const size_t begin = text_begin(std::to_integer<int>(first[6]));
  return begin + static_cast<size_t>(std::min(text_length(first, begin), max_header));
}

NpyArray parse_npy_head(std::span<const std::byte> head, uint64_t size, const std::string& name) {
  const auto [h, begin] = parse_header(head, name);
  if (h.kind == 'O') throw DataError("{}: a NumPy array of Python objects is not supported; save numbers", name);
  unsigned __int128 wanted = h.bytes;
  const bool empty = std::find(h.shape.begin(), h.shape.end(), 0) != h.shape.end();
  const uint64_t data = size - begin;
  for (const int64_t n : h.shape) {
    wanted = empty ? 0 : wanted * static_cast<uint64_t>(n);
    if (wanted > data) break;  // before it can overflow
  }
  if (wanted != data)
    throw damaged(name,
                  fmt::format("{} bytes of data, which is not what shape ({}) of {}{} takes", data, fmt::join(h.shape, ", "),
                              h.kind, h.bytes),
                  size, size);

  NpyArray array{.tensor = {}, .data = begin};
  array.tensor.name = "array";
  array.tensor.dtype = stored_type(h);
  array.tensor.shape = h.shape;
  array.tensor.strides = dense_strides(h.shape, h.fortran);
  array.tensor.big_endian = h.order == '>';
  return array;
}

StoredTensor parse_npy(std::span<const std::byte> bytes, const std::string& name) {
  NpyArray array = parse_npy_head(bytes, bytes.size(), name);
  array.tensor.storage = plain_storage(bytes.subspan(array.data), false);
  return std::move(array.tensor);
}

Tensor decode_npy(std::span<const std::byte> bytes, const std::string& name) { return parse_npy(bytes, name).tensor(name); }

Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  return decode_npy(file.bytes(), path.string());
}

std::map<std::string, Tensor> read_npz(const std::filesystem::path& path, const ZipLimits& limits) {
  const ZipFile zip(path, limits);
  std::map<std::string, Tensor> tensors;
  for (const ZipEntry& e : zip.entries()) {
    if (!e.name.ends_with(".npy")) throw DataError("{}: member \"{}\" is no NumPy array", path.string(), e.name);
    tensors[e.name.substr(0, e.name.size() - 4)] = decode_npy(zip.read(e), path.string() + ", member " + e.name);
  }
  return tensors;
}

namespace {

std::string header_of(std::string_view type, const std::string& shape) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, shape);
  header.append(63 - (10 + header.size()) % 64, ' ');  // data begin at a multiple of 64, after the line's end
  header += '\n';
  std::string out(magic);
  out += {'\x01', '\0', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return out + header;
}

}  // namespace

std::string npy_header(std::string_view dtype, const std::vector<int64_t>& shape) {
  GLIA_CHECK(stored_bytes_of(dtype) && dtype != "BF16" && !dtype.starts_with("F8"), "npy: NumPy has no {}; cast to float32 first",
             dtype);
  const size_t size = stored_bytes_of(dtype);
  const char kind = dtype == "BOOL" ? 'b' : static_cast<char>(dtype[0] - 'A' + 'a');
  return header_of(fmt::format("{}{}{}", size == 1 ? '|' : '<', kind, size),
                   fmt::format("{}{}", fmt::join(shape, ", "), shape.size() == 1 ? "," : ""));
}

std::string npy_object_header() { return header_of("|O", ""); }

std::string encode_npy(const Tensor& tensor) {
  const Tensor host = tensor.to(Device{});
  const auto dims = host.shape().dims();
  std::string out = npy_header(stored_name(host.dtype()), {dims.begin(), dims.end()});
  if (host.bytes()) out.append(reinterpret_cast<const char*>(host.raw()), host.bytes());
  return out;
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) { write_file(path, encode_npy(tensor)); }

void write_npz(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors, bool deflate) {
  ZipWriter zip(path);
  for (const auto& [name, tensor] : tensors) zip.add(name + ".npy", encode_npy(tensor), deflate);
  zip.commit();
}

}  // namespace glia
