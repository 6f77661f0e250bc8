// Reader and writer of safetensors; see the header for the layout.
#include "data/safetensors.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "tensor/error.h"

namespace glia {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data are little endian");

constexpr const char* checksum_key = "xxh3_64";

struct StoredType {
  std::string_view name;
  size_t bytes;
};
constexpr std::array<StoredType, 15> stored_types{{{"F64", 8},
                                                   {"F32", 4},
                                                   {"F16", 2},
                                                   {"BF16", 2},
                                                   {"I64", 8},
                                                   {"I32", 4},
                                                   {"I16", 2},
                                                   {"I8", 1},
                                                   {"U64", 8},
                                                   {"U32", 4},
                                                   {"U16", 2},
                                                   {"U8", 1},
                                                   {"BOOL", 1},
                                                   {"F8_E4M3", 1},
                                                   {"F8_E5M2", 1}}};

// Bytes of one element; 0 for an unknown type.
size_t bytes_of(std::string_view dtype) {
  for (const StoredType& t : stored_types) {
    if (t.name == dtype) return t.bytes;
  }
  return 0;
}

std::string_view stored_name(DType dtype) {
  switch (dtype) {
    case DType::float32: return "F32";
    case DType::float64: return "F64";
    case DType::int32: return "I32";
    case DType::int64: return "I64";
    case DType::uint8: return "U8";
    case DType::boolean: return "BOOL";
    case DType::float16: return "F16";
    case DType::bfloat16: return "BF16";
  }
  throw InternalError("safetensors: no stored type for {}", name_of(dtype));
}

// Takes the events of the JSON reader for exactly the header's grammar; anything else stops it with a message. Three levels are
// the deepest that the grammar has, so nesting cannot grow.
class HeaderHandler : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, HeaderHandler> {
 public:
  std::vector<SafetensorsEntry> entries;
  Metadata metadata;
  std::string error;

  bool Default() { return stop("a value that does not belong there"); }
  bool StartObject() {
    if (state_ == State::begin) return go(State::top);
    if (state_ == State::entry) return go(State::field);
    if (state_ == State::metadata) return go(State::metadata_key);
    return stop("an object that does not belong there");
  }
  bool Key(const char* text, rapidjson::SizeType length, bool) {
    const std::string key(text, length);
    if (state_ == State::top) return top_key(key);
    if (state_ == State::metadata_key) {
      if (metadata.count(key)) return stop("metadata key \"" + key + "\" twice");
      key_ = key;
      return go(State::metadata_value);
    }
    if (key == "dtype") return once(seen_dtype_, key) && go(State::dtype);
    if (key == "shape") return once(seen_shape_, key) && go(State::shape);
    if (key == "data_offsets") return once(seen_offsets_, key) && go(State::offsets);
    return stop("unknown field \"" + key + "\"");
  }
  bool String(const char* text, rapidjson::SizeType length, bool) {
    if (state_ == State::metadata_value) {
      metadata[key_] = std::string(text, length);
      return go(State::metadata_key);
    }
    if (state_ != State::dtype) return stop("a string that does not belong there");
    entries.back().dtype.assign(text, length);
    return go(State::field);
  }
  bool StartArray() {
    if (state_ == State::shape) return go(State::shape_items);
    if (state_ == State::offsets) return go(State::offset_items);
    return stop("an array that does not belong there");
  }
  bool Uint(unsigned value) { return Uint64(value); }
  bool Uint64(uint64_t value) {
    if (state_ == State::shape_items) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return stop("a dimension beyond int64");
      entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ != State::offset_items || offsets_ == 2) return stop("a number that does not belong there");
    (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
    return true;
  }
  bool Int(int) { return stop("a negative number"); }
  bool Int64(int64_t) { return stop("a negative number"); }
  bool EndArray(rapidjson::SizeType) {
    if (state_ == State::offset_items && offsets_ != 2) return stop("data_offsets with fewer than two numbers");
    return go(State::field);
  }
  bool EndObject(rapidjson::SizeType) {
    if (state_ == State::top) return go(State::end);
    if (state_ == State::field && !(seen_dtype_ && seen_shape_ && seen_offsets_))
      return stop("an entry without dtype, shape or data_offsets");
    return go(State::top);
  }
  std::string where() const { return entries.empty() ? std::string() : " (at tensor \"" + entries.back().name + "\")"; }

 private:
  enum class State {
    begin,
    top,
    entry,
    field,
    dtype,
    shape,
    shape_items,
    offsets,
    offset_items,
    metadata,
    metadata_key,
    metadata_value,
    end
  };

  bool go(State next) {
    state_ = next;
    return true;
  }
  bool stop(const std::string& what) {
    error = what + where();
    return false;
  }
  bool once(bool& seen, const std::string& key) {
    if (seen) return stop("field \"" + key + "\" twice");
    return seen = true;
  }
  bool top_key(const std::string& key) {
    if (key == "__metadata__") return once(seen_metadata_, key) && go(State::metadata);
    entries.emplace_back().name = key;
    seen_dtype_ = seen_shape_ = seen_offsets_ = false;
    offsets_ = 0;
    return go(State::entry);
  }

  State state_ = State::begin;
  std::string key_;
  int offsets_ = 0;
  bool seen_metadata_ = false, seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
};

// Bytes that shape and dtype ask for; nothing when that overflows, also where a side of 0 comes after it.
std::optional<uint64_t> bytes_wanted(const SafetensorsEntry& entry) {
  uint64_t bytes = bytes_of(entry.dtype);
  bool empty = false;
  for (const int64_t n : entry.shape) {
    empty = empty || n == 0;
    const bool over = n > 0 && __builtin_mul_overflow(bytes, static_cast<uint64_t>(n), &bytes);
    if (over || bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 16) return std::nullopt;
  }
  return empty ? 0 : bytes;
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

Tensor copied(std::span<const std::byte> bytes, const Shape& shape, DType dtype) {
  Tensor t(shape, dtype);
  copy_bytes(t.raw(), bytes.data(), bytes.size());
  return t;
}

std::string digest(std::span<const std::byte> bytes) { return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size())); }

// Checksum of all that the header says but the checksums themselves.
std::string header_digest(const std::vector<SafetensorsEntry>& entries, const Metadata& metadata) {
  std::string text;
  for (const SafetensorsEntry& e : entries)
    text += fmt::format("{} {} {} [{}] {} {}\n", e.name.size(), e.name, e.dtype, fmt::join(e.shape, ","), e.begin, e.end);
  for (const auto& [key, value] : metadata) {
    if (key != checksum_key) text += fmt::format("{} {} {} {}\n", key.size(), key, value.size(), value);
  }
  return digest(std::as_bytes(std::span(text)));
}

// "NAME digest" lines, first the header's under an empty name. Names may hold any character but a line's end: those are escaped.
std::string checksum_line(std::string_view name, const std::string& digest) {
  std::string line = digest + " ";
  for (const char c : name) line += c == '\n' ? std::string("\\n") : c == '\\' ? std::string("\\\\") : std::string(1, c);
  return line + "\n";
}

std::string header_json(const std::vector<SafetensorsEntry>& entries, const Metadata& metadata) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> w(buffer);
  const auto text = [&](std::string_view s) { w.String(s.data(), static_cast<rapidjson::SizeType>(s.size())); };
  w.StartObject();
  if (!metadata.empty()) {
    w.Key("__metadata__");
    w.StartObject();
    for (const auto& [key, value] : metadata) {
      text(key);
      text(value);
    }
    w.EndObject();
  }
  for (const SafetensorsEntry& e : entries) {
    text(e.name);
    w.StartObject();
    w.Key("dtype");
    text(e.dtype);
    w.Key("shape");
    w.StartArray();
    for (const int64_t n : e.shape) w.Int64(n);
    w.EndArray();
    w.Key("data_offsets");
    w.StartArray();
    w.Uint64(e.begin);
    w.Uint64(e.end);
    w.EndArray();
    w.EndObject();
  }
  w.EndObject();
  std::string header(buffer.GetString(), buffer.GetSize());
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : name_(path.string()), file_(std::in_place, path) {
  bytes_ = file_->bytes();
  parse();
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)), bytes_(bytes) {
  parse();
}

void SafetensorsFile::fail(std::string_view what) const { throw DataError("{}: not a valid safetensors file: {}", name_, what); }

void SafetensorsFile::parse() {
  uint64_t length = 0;
  if (bytes_.size() < sizeof length)
    fail(fmt::format("{} bytes, want at least 8; the file is empty or was cut off", bytes_.size()));
  std::memcpy(&length, bytes_.data(), sizeof length);
  if (length > max_header) fail(fmt::format("header of {} bytes at offset 0, at most {} are allowed", length, max_header));
  if (length > bytes_.size() - 8)
    fail(fmt::format("header of {} bytes, but the file ends at byte {}; it was cut off", length, bytes_.size()));
  const char* header = reinterpret_cast<const char*>(bytes_.data()) + 8;
  if (length == 0 || header[0] != '{') fail("the header at byte 8 does not begin with '{'");

  HeaderHandler handler;
  rapidjson::MemoryStream stream(header, static_cast<size_t>(length));
  rapidjson::Reader reader;
  reader.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(stream, handler);
  if (reader.HasParseError()) {
    fail(fmt::format("header, byte {}: {}", 8 + reader.GetErrorOffset(),
                     handler.error.empty() ? rapidjson::GetParseError_En(reader.GetParseErrorCode()) : handler.error));
  }
  if (stream.Tell() != length) fail(fmt::format("header, byte {}: a zero byte after the JSON object", 8 + stream.Tell()));
  metadata_ = std::move(handler.metadata);
  entries_ = std::move(handler.entries);
  data_ = bytes_.subspan(8 + static_cast<size_t>(length));

  std::sort(entries_.begin(), entries_.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const SafetensorsEntry& e = entries_[i];
    if (!index_.emplace(e.name, i).second) fail(fmt::format("tensor \"{}\" twice", e.name));
    if (bytes_of(e.dtype) == 0) fail(fmt::format("tensor \"{}\": unknown dtype \"{}\"", e.name, e.dtype));
    const auto wanted = bytes_wanted(e);
    if (!wanted) fail(fmt::format("tensor \"{}\": shape [{}] overflows", e.name, fmt::join(e.shape, ", ")));
    if (e.begin != at)
      fail(fmt::format("tensor \"{}\": data begin at {}, want {}; tensors overlap or leave a hole", e.name, e.begin, at));
    if (e.end < e.begin || e.end - e.begin != *wanted)
      fail(fmt::format("tensor \"{}\": data_offsets [{}, {}], but {} of shape [{}] takes {} bytes", e.name, e.begin, e.end,
                       e.dtype, fmt::join(e.shape, ", "), *wanted));
    if (e.end > data_.size())
      fail(fmt::format("tensor \"{}\": ends at byte {} of the data, but the file holds {}; it was cut off", e.name, e.end,
                       data_.size()));
    at = e.end;
  }
  if (at != data_.size()) fail(fmt::format("{} bytes after the last tensor", data_.size() - at));
}

const SafetensorsEntry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw DataError("{}: no tensor \"{}\" among its {}", name_, name, entries_.size());
  return entries_[found->second];
}

std::span<const std::byte> SafetensorsFile::raw(const SafetensorsEntry& entry) const {
  return data_.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.end - entry.begin));
}

Tensor SafetensorsFile::load(std::string_view name) const {
  const SafetensorsEntry& e = entry(name);
  if (e.shape.size() > Shape::max_rank)
    throw DataError("{}: tensor \"{}\" has {} dimensions, at most {} are supported", name_, name, e.shape.size(),
                    Shape::max_rank);
  const Shape shape{std::span<const int64_t>(e.shape)};
  const auto bytes = raw(e);
  if (e.dtype == "F32") return copied(bytes, shape, DType::float32);
  if (e.dtype == "F64") return copied(bytes, shape, DType::float64);
  if (e.dtype == "F16") return copied(bytes, shape, DType::float16);
  if (e.dtype == "BF16") return copied(bytes, shape, DType::bfloat16);
  if (e.dtype == "I32") return copied(bytes, shape, DType::int32);
  if (e.dtype == "I64") return copied(bytes, shape, DType::int64);
  if (e.dtype == "U8") return copied(bytes, shape, DType::uint8);
  if (e.dtype == "I8") return widened<int8_t, int32_t>(bytes, shape);
  if (e.dtype == "I16") return widened<int16_t, int32_t>(bytes, shape);
  if (e.dtype == "U16") return widened<uint16_t, int32_t>(bytes, shape);
  if (e.dtype == "U32") return widened<uint32_t, int64_t>(bytes, shape);
  if (e.dtype == "U64") {
    const Tensor t = widened<uint64_t, int64_t>(bytes, shape);
    const auto values = t.values<int64_t>();
    if (std::any_of(values.begin(), values.end(), [](int64_t v) { return v < 0; }))
      throw DataError("{}: tensor \"{}\": a U64 value is above {}", name_, name, std::numeric_limits<int64_t>::max());
    return t;
  }
  if (e.dtype == "BOOL") {
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; }))
      throw DataError("{}: tensor \"{}\": a BOOL that is neither 0 nor 1", name_, name);
    return copied(bytes, shape, DType::boolean);
  }
  throw DataError("{}: tensor \"{}\": dtype {} is not supported", name_, name, e.dtype);
}

bool SafetensorsFile::verify() const {
  const auto stored = metadata_.find(checksum_key);
  if (stored == metadata_.end()) return false;
  std::string_view rest = stored->second;
  const auto check = [&](std::string_view what, std::string_view name, const std::string& value) {
    const std::string line = checksum_line(name, value);
    if (rest.substr(0, line.size()) != line)
      throw DataError("{}: the checksum of {} is {}, the file says otherwise; it was damaged after it was written", name_, what,
                      value);
    rest.remove_prefix(line.size());
  };
  check("the header", "", header_digest(entries_, metadata_));
  for (const SafetensorsEntry& e : entries_) check(fmt::format("tensor \"{}\"", e.name), e.name, digest(raw(e)));
  if (!rest.empty()) throw DataError("{}: more checksums than tensors", name_);
  return true;
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors, const Metadata& metadata,
                       SafetensorsOptions options) {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& item : tensors) {
    GLIA_CHECK(item.second, "{}: \"{}\" is no tensor", path.string(), item.first);
    GLIA_CHECK(item.first != "__metadata__", "{}: \"__metadata__\" is no name for a tensor", path.string());
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](auto* a, auto* b) { return size_of(a->second.dtype()) > size_of(b->second.dtype()); });

  // Sorted as the reader sorts: tensors of no bytes share their offsets and go by name.
  std::vector<SafetensorsEntry> entries;
  uint64_t at = 0;
  for (const auto* item : order) {
    const auto dims = item->second.shape().dims();
    const uint64_t end = at + item->second.bytes();
    entries.push_back({item->first, std::string(stored_name(item->second.dtype())), {dims.begin(), dims.end()}, at, end});
    at = end;
  }
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  Metadata all = metadata;
  all.erase(checksum_key);
  if (options.checksums) {
    std::string lines = checksum_line("", header_digest(entries, all));
    for (const SafetensorsEntry& e : entries) {
      const Tensor host = tensors.at(e.name).to(Device{});
      lines += checksum_line(e.name, digest({host.raw(), host.bytes()}));
    }
    all[checksum_key] = lines;
  }

  const std::string header = header_json(entries, all);
  if (header.size() > SafetensorsFile::max_header)
    throw DataError("{}: header of {} bytes, at most {} are allowed", path.string(), header.size(), SafetensorsFile::max_header);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const SafetensorsEntry& e : entries) {
    const Tensor host = tensors.at(e.name).to(Device{});
    file.write(host.raw(), host.bytes());
  }
  file.commit();
}

}  // namespace glia
