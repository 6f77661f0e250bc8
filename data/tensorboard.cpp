// TensorBoard event files; see the header.
#include "data/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "data/atomic_file.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr uint64_t max_event = 16 << 20;  // bytes of one record; ours have some hundred

// Field numbers of Event, Summary and Summary.Value, and the wire types used.
enum EventField : uint32_t { wall_time_field = 1, step_field = 2, file_version_field = 3, summary_field = 5 };
enum SummaryField : uint32_t { value_field = 1, tag_field = 1, simple_value_field = 2 };
enum Wire : uint32_t { varint_wire = 0, fixed64_wire = 1, bytes_wire = 2, fixed32_wire = 5 };

constexpr auto crc_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0u);
    table[i] = c;
  }
  return table;
}();

// TFRecord's checksum of data that may contain checksums.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

template <class T>
void put(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void put_varint(std::string& out, uint64_t v) {
  for (; v > 127; v >>= 7) out += static_cast<char>(v | 128);
  out += static_cast<char>(v);
}

void put_key(std::string& out, uint32_t field, Wire wire) { put_varint(out, field << 3 | wire); }

void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  put_key(out, field, bytes_wire);
  put_varint(out, bytes.size());
  out += bytes;
}

// Fields of a message, one after the other; throws with the offset in the file.
class Message {
 public:
  Message(std::string_view bytes, size_t offset, const std::string& name) : bytes_(bytes), offset_(offset), name_(name) {}

  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t key = varint();
    field = static_cast<uint32_t>(key >> 3);
    wire = static_cast<uint32_t>(key & 7);
    switch (wire) {
      case varint_wire: number = varint(); break;
      case fixed64_wire: number = fixed(8); break;
      case fixed32_wire: number = fixed(4); break;
      case bytes_wire: {
        const uint64_t n = varint();
        if (n > bytes_.size() - at_) fail("a field ends beyond its message");
        start = offset_ + at_;
        text = bytes_.substr(at_, n);
        at_ += n;
        break;
      }
      default: fail("an unknown wire type");
    }
    return true;
  }

  uint32_t field = 0, wire = 0;
  uint64_t number = 0;    // of varint and fixed fields
  std::string_view text;  // of byte fields
  size_t start = 0;       // where text begins in the file

 private:
  [[noreturn]] void fail(const char* what) const {
    throw DataError("{}: damaged event file: {} (at byte {})", name_, what, offset_ + at_);
  }
  uint64_t fixed(size_t n) {
    if (n > bytes_.size() - at_) fail("a number ends beyond its message");
    uint64_t v = 0;
    std::memcpy(&v, bytes_.data() + at_, n);
    at_ += n;
    return v;
  }
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("a number ends beyond its message");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      v |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return v;
    }
    fail("a number of more than 64 bits");
  }

  std::string_view bytes_;
  size_t at_ = 0;
  size_t offset_;
  const std::string& name_;
};

Event decode_event(std::string_view bytes, size_t offset, const std::string& name) {
  Event event;
  for (Message m(bytes, offset, name); m.next();) {
    if (m.field == wall_time_field && m.wire == fixed64_wire) event.wall_time = std::bit_cast<double>(m.number);
    if (m.field == step_field && m.wire == varint_wire) event.step = static_cast<int64_t>(m.number);
    if (m.field == file_version_field && m.wire == bytes_wire) event.file_version = m.text;
    if (m.field != summary_field || m.wire != bytes_wire) continue;
    for (Message summary(m.text, m.start, name); summary.next();) {
      if (summary.field != value_field || summary.wire != bytes_wire) continue;
      std::string tag;
      float number = 0;
      bool scalar = false;
      for (Message value(summary.text, summary.start, name); value.next();) {
        if (value.field == tag_field && value.wire == bytes_wire) tag = value.text;
        if (value.field != simple_value_field || value.wire != fixed32_wire) continue;
        number = std::bit_cast<float>(static_cast<uint32_t>(value.number));
        scalar = true;
      }
      if (scalar) event.scalars.emplace_back(tag, number);
    }
  }
  return event;
}

std::string host_name() {
  std::array<char, 256> host{};
  return ::gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "host";
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t c = ~0u;
  for (const char b : bytes) c = c >> 8 ^ crc_table[(c ^ static_cast<unsigned char>(b)) & 255];
  return ~c;
}

std::string encode_event(const Event& event) {
  std::string message;
  put_key(message, wall_time_field, fixed64_wire);
  put(message, event.wall_time);
  if (event.step != 0) {
    put_key(message, step_field, varint_wire);
    put_varint(message, static_cast<uint64_t>(event.step));
  }
  if (!event.file_version.empty()) put_bytes(message, file_version_field, event.file_version);
  if (!event.scalars.empty()) {
    std::string summary;
    for (const auto& [tag, v] : event.scalars) {
      std::string value;
      put_bytes(value, tag_field, tag);
      put_key(value, simple_value_field, fixed32_wire);
      put(value, v);
      put_bytes(summary, value_field, value);
    }
    put_bytes(message, summary_field, summary);
  }
  std::string record;
  put(record, static_cast<uint64_t>(message.size()));
  put(record, masked_crc(record));
  record += message;
  put(record, masked_crc(message));
  return record;
}

std::vector<Event> decode_events(std::span<const std::byte> bytes, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<Event> events;
  const auto fail = [&](const char* what, size_t at) {
    throw DataError("{}: damaged event file: {} (at byte {} of {})", name, what, at, bytes.size());
  };
  const auto u32 = [&](size_t at) {
    uint32_t v = 0;
    std::memcpy(&v, text.data() + at, sizeof v);
    return v;
  };
  if (text.empty()) fail("the file is empty", 0);
  for (size_t at = 0; at < text.size();) {
    if (text.size() - at < 12) fail("the file was cut off", text.size());
    if (masked_crc(text.substr(at, 8)) != u32(at + 8)) fail("the checksum of a record's length is wrong", at);
    uint64_t length = 0;
    std::memcpy(&length, text.data() + at, sizeof length);
    if (length > max_event) fail("a record of more than 16 MiB", at);
    if (length + 4 > text.size() - at - 12) fail("the file was cut off", text.size());
    const std::string_view message = text.substr(at + 12, length);
    if (masked_crc(message) != u32(at + 12 + length)) fail("the checksum of a record is wrong", at);
    events.push_back(decode_event(message, at + 12, name));
    at += length + 16;
  }
  return events;
}

std::vector<Event> read_events(const std::filesystem::path& path) {
  const MappedFile file(path);
  return decode_events(file.bytes(), path.string());
}

EventWriter::EventWriter(const std::filesystem::path& folder) {
  const double time = now();
  path_ = folder / fmt::format("events.out.tfevents.{:010d}.{}.{}", static_cast<int64_t>(time), host_name(), ::getpid());
  fd_ = file_calls().open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw IoError("{}: cannot create: {}", path_.string(), std::strerror(errno));
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  good_bytes_ = end > 0 ? static_cast<uint64_t>(end) : 0;
  try {
    append({time, 0, "brain.Event:2", {}});
  } catch (...) {
    file_calls().close(fd_);
    throw;
  }
}

EventWriter::~EventWriter() { file_calls().close(fd_); }

void EventWriter::scalars(int64_t step, std::span<const std::pair<std::string, float>> values) {
  append({now(), step, "", {values.begin(), values.end()}});
}

void EventWriter::append(const Event& event) {
  const std::string record = encode_event(event);
  for (size_t done = 0; done < record.size();) {
    const ssize_t n = file_calls().write(fd_, record.data() + done, record.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : EIO;
      // Half a record would make what follows unreadable. If even this fails, the reader says where.
      [[maybe_unused]] const int ignored = ::ftruncate(fd_, static_cast<off_t>(good_bytes_));
      throw IoError("{}: cannot write: {}", path_.string(), std::strerror(error));
    }
    done += static_cast<size_t>(n);
  }
  good_bytes_ += record.size();
}

}  // namespace glia
