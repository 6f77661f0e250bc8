// The JSON header of a safetensors file: a reader that takes exactly its grammar, and the writer.
#include "data/safetensors_header.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <array>
#include <limits>

#include "tensor/error.h"

namespace glia {
namespace {

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

}  // namespace

size_t stored_bytes_of(std::string_view dtype) {
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

std::optional<uint64_t> bytes_wanted(const SafetensorsEntry& entry) {
  uint64_t bytes = stored_bytes_of(entry.dtype);
  bool empty = false;
  for (const int64_t n : entry.shape) {
    empty = empty || n == 0;
    const bool over = n > 0 && __builtin_mul_overflow(bytes, static_cast<uint64_t>(n), &bytes);
    if (over || bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 16) return std::nullopt;
  }
  return empty ? 0 : bytes;
}

std::string parse_header(std::string_view text, std::vector<SafetensorsEntry>& entries, Metadata& metadata) {
  HeaderHandler handler;
  rapidjson::MemoryStream stream(text.data(), text.size());
  rapidjson::Reader reader;
  reader.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(stream, handler);
  if (reader.HasParseError())
    return fmt::format("header, byte {}: {}", 8 + reader.GetErrorOffset(),
                       handler.error.empty() ? rapidjson::GetParseError_En(reader.GetParseErrorCode()) : handler.error);
  if (stream.Tell() != text.size()) return fmt::format("header, byte {}: a zero byte after the JSON object", 8 + stream.Tell());
  metadata = std::move(handler.metadata);
  entries = std::move(handler.entries);
  return {};
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

}  // namespace glia
