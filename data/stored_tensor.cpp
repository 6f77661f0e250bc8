#include "data/stored_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "data/atomic_file.h"
#include "data/limits.h"
#include "data/safetensors_header.h"
#include "tensor/error.h"

namespace glia {
namespace {

// Types that are stored as they are in memory, and have no values that are none.
std::optional<DType> same_type(std::string_view dtype) {
  if (dtype == "F32") return DType::float32;
  if (dtype == "F64") return DType::float64;
  if (dtype == "F16") return DType::float16;
  if (dtype == "BF16") return DType::bfloat16;
  if (dtype == "I32") return DType::int32;
  if (dtype == "I64") return DType::int64;
  if (dtype == "U8") return DType::uint8;
  return std::nullopt;
}

template <class From, class To>
Tensor widened(std::span<const std::byte> bytes, const Shape& shape) {
  Tensor t(shape, dtype_of<To>);
  To* out = t.data<To>();
  for (size_t i = 0; i < bytes.size() / sizeof(From); ++i) {
    From v;
    std::memcpy(&v, bytes.data() + i * sizeof(From), sizeof v);
    out[i] = static_cast<To>(v);
  }
  return t;
}

Tensor copied(std::span<const std::byte> bytes, const Shape& shape, DType dtype, bool mapped) {
  Tensor t(shape, dtype);
  std::byte* to = t.raw();
  in_pieces(bytes, mapped, [&to](std::span<const std::byte> part) {
    copy_bytes(to, part.data(), part.size());
    to += part.size();
  });
  return t;
}

template <class T>
double element(const std::byte* data, size_t i) {
  T v;
  std::memcpy(&v, data + i * sizeof(T), sizeof v);
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
    return static_cast<double>(static_cast<float>(v));
  } else {
    return static_cast<double>(v);
  }
}

// Copies the elements of a strided tensor, the last axis innermost.
template <size_t Size>
void gather(const StoredTensor& t, const std::byte* from, std::byte* to) {
  const size_t rank = t.shape.size();
  const int64_t inner = rank ? t.shape[rank - 1] : 1, step = rank ? t.strides[rank - 1] : 0;
  std::vector<int64_t> at(rank, 0);
  for (;;) {
    int64_t first = static_cast<int64_t>(t.offset);
    for (size_t a = 0; a + 1 < rank; ++a) first += at[a] * t.strides[a];
    const std::byte* source = from + static_cast<size_t>(first) * Size;
    for (int64_t i = 0; i < inner; ++i, to += Size) std::memcpy(to, source + i * step * static_cast<int64_t>(Size), Size);
    size_t a = rank < 2 ? 0 : rank - 1;
    for (; a-- > 0;) {
      if (++at[a] < t.shape[a]) break;
      at[a] = 0;
    }
    if (a == static_cast<size_t>(-1)) return;
  }
}

void swap_bytes(std::vector<std::byte>& bytes, size_t size) {
  for (size_t i = 0; i + size <= bytes.size(); i += size)
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i), bytes.begin() + static_cast<std::ptrdiff_t>(i + size));
}

}  // namespace

std::shared_ptr<const Storage> plain_storage(std::span<const std::byte> bytes, bool mapped) {
  return std::make_shared<const Storage>(Storage{bytes.size(), mapped, [bytes] { return StoredBytes{{}, bytes}; }});
}

std::shared_ptr<const Storage> decoded_storage(size_t size, std::function<void(std::span<std::byte>)> read_into) {
  const auto read = [read_into, size] {
    StoredBytes out;
    out.own.resize(size);
    read_into(out.own);
    out.view = out.own;
    return out;
  };
  return std::make_shared<const Storage>(Storage{size, false, read, read_into});
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape, bool fortran) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    const size_t a = fortran ? k : shape.size() - 1 - k;
    strides[a] = step;
    if (__builtin_mul_overflow(step, std::max<int64_t>(shape[a], 1), &step)) step = 0;  // check_stored refuses such shapes
  }
  return strides;
}

uint64_t StoredTensor::elements() const {
  uint64_t n = 1;
  for (const int64_t side : shape) n *= static_cast<uint64_t>(side);
  return n;
}

uint64_t StoredTensor::byte_count() const { return elements() * stored_bytes_of(dtype); }

void check_stored(const StoredTensor& t, const std::string& source) {
  const auto fail = [&](const std::string& what) {
    throw DataError("{}: tensor \"{}\": {} (shape {}, strides {}, offset {} of {})", source, t.name, what, shape_text(t.shape),
                    shape_text(t.strides), t.offset, t.dtype);
  };
  const uint64_t size = stored_bytes_of(t.dtype);
  if (size == 0) fail("an element type that is not read");
  if (t.shape.size() > 64) throw DataError("{}: tensor \"{}\": {} dimensions", source, t.name, t.shape.size());
  if (t.shape.size() != t.strides.size()) fail("not as many strides as dimensions");
  for (size_t a = 0; a < t.shape.size(); ++a)
    if (t.shape[a] < 0 || t.strides[a] < 0) fail("a negative size or stride");
  if (!bytes_wanted({t.name, t.dtype, t.shape, 0, 0})) fail("its size overflows");
  if (t.elements() == 0) return;
  uint64_t last = t.offset;
  for (size_t a = 0; a < t.shape.size(); ++a) {
    uint64_t reach = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(t.shape[a] - 1), static_cast<uint64_t>(t.strides[a]), &reach) ||
        __builtin_add_overflow(last, reach, &last))
      fail("its strides overflow");
  }
  const uint64_t stored = t.storage->size / size;
  if (last >= stored) fail(fmt::format("reaches element {}, but its storage holds {}", last, stored));
  if (t.byte_count() > std::max(t.storage->size, static_cast<uint64_t>(file_limits().tensor_growth)))
    fail(fmt::format("repeats {} stored bytes to {}; a file made to exhaust memory?{}", t.storage->size, t.byte_count(),
                     raise_hint("tensor_growth")));
}

StoredBytes StoredTensor::bytes(const std::string& source) const {
  check_stored(*this, source);
  const size_t size = stored_bytes_of(dtype);
  const auto count = static_cast<size_t>(byte_count());
  if (count == 0) return {};
  StoredBytes stored = storage->read();
  const bool dense = strides == dense_strides(shape);
  if (dense) stored.view = stored.view.subspan(static_cast<size_t>(offset) * size, count);
  if (dense && !first_row_last && (!big_endian || size == 1)) return stored;

  StoredBytes out;
  out.own.resize(count);
  if (dense) {
    std::copy(stored.view.begin(), stored.view.end(), out.own.begin());
  } else if (size == 1) {
    gather<1>(*this, stored.view.data(), out.own.data());
  } else if (size == 2) {
    gather<2>(*this, stored.view.data(), out.own.data());
  } else if (size == 4) {
    gather<4>(*this, stored.view.data(), out.own.data());
  } else {
    gather<8>(*this, stored.view.data(), out.own.data());
  }
  if (big_endian) swap_bytes(out.own, size);
  if (first_row_last && !shape.empty()) {
    const auto row = static_cast<std::ptrdiff_t>(count / static_cast<size_t>(shape[0]));
    std::rotate(out.own.begin(), out.own.begin() + row, out.own.end());
  }
  out.view = out.own;
  return out;
}

Tensor StoredTensor::tensor(const std::string& source) const {
  check_stored(*this, source);
  const std::optional<DType> type = same_type(dtype);
  const bool whole = offset == 0 && byte_count() == storage->size && strides == dense_strides(shape);
  if (storage->read_into && type && whole && !first_row_last && !big_endian && shape.size() <= Shape::max_rank) {
    Tensor t(Shape{std::span<const int64_t>(shape)}, *type);
    storage->read_into({t.raw(), t.bytes()});
    return t;
  }
  const StoredBytes stored = bytes(source);
  const bool in_file = storage->mapped && stored.own.empty();
  Tensor t = tensor_of_bytes(dtype, shape, stored.view, source, name, in_file);
  if (in_file) MappedFile::release(stored.view);
  return t;
}

Tensor tensor_of_bytes(std::string_view dtype, const std::vector<int64_t>& sides, std::span<const std::byte> bytes,
                       const std::string& source, std::string_view name, bool mapped) {
  if (sides.size() > Shape::max_rank)
    throw DataError("{}: tensor \"{}\" has {} dimensions, at most {} are supported", source, name, sides.size(), Shape::max_rank);
  const Shape shape{std::span<const int64_t>(sides)};
  if (const auto type = same_type(dtype)) return copied(bytes, shape, *type, mapped);
  if (dtype == "I8") return widened<int8_t, int32_t>(bytes, shape);
  if (dtype == "I16") return widened<int16_t, int32_t>(bytes, shape);
  if (dtype == "U16") return widened<uint16_t, int32_t>(bytes, shape);
  if (dtype == "U32") return widened<uint32_t, int64_t>(bytes, shape);
  if (dtype == "U64") {
    const Tensor t = widened<uint64_t, int64_t>(bytes, shape);
    const auto values = t.values<int64_t>();
    if (std::any_of(values.begin(), values.end(), [](int64_t v) { return v < 0; }))
      throw DataError("{}: tensor \"{}\": a U64 value is above {}", source, name, std::numeric_limits<int64_t>::max());
    return t;
  }
  if (dtype == "BOOL") {
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; }))
      throw DataError("{}: tensor \"{}\": a BOOL that is neither 0 nor 1", source, name);
    return copied(bytes, shape, DType::boolean, mapped);
  }
  throw DataError("{}: tensor \"{}\": dtype {} is not supported", source, name, dtype);
}

ElementReader element_reader(std::string_view dtype) {
  if (dtype == "F32") return element<float>;
  if (dtype == "F64") return element<double>;
  if (dtype == "F16") return element<Half>;
  if (dtype == "BF16") return element<BFloat16>;
  if (dtype == "I64") return element<int64_t>;
  if (dtype == "I32") return element<int32_t>;
  if (dtype == "I16") return element<int16_t>;
  if (dtype == "I8") return element<int8_t>;
  if (dtype == "U64") return element<uint64_t>;
  if (dtype == "U32") return element<uint32_t>;
  if (dtype == "U16") return element<uint16_t>;
  if (dtype == "U8" || dtype == "BOOL") return element<uint8_t>;
  throw InternalError("no numbers can be read from dtype {}", dtype);
}

}  // namespace glia
