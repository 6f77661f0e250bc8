#pragma once
// TensorBoard event files with scalar summaries, without TensorFlow. A file is a sequence of TFRecords: length (u64), its masked
// CRC-32C, an Event (protocol buffer, tensorflow/core/util/event.proto), its masked CRC-32C. Little endian.
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace glia {

struct Event {
  double wall_time = 0;  // seconds since 1970
  int64_t step = 0;
  std::string file_version;                            // only in the first event of a file
  std::vector<std::pair<std::string, float>> scalars;  // tag, value
};

uint32_t crc32c(std::string_view bytes);       // Castagnoli
std::string encode_event(const Event& event);  // as a TFRecord

// DataError with the byte offset: cut off, a wrong checksum, a damaged message. Fields other than the above are passed over.
std::vector<Event> decode_events(std::span<const std::byte> bytes, const std::string& name);
std::vector<Event> read_events(const std::filesystem::path& path);

// Appends to FOLDER/events.out.tfevents.SECONDS.HOST.PID as training goes on; each call reaches the file before it returns, so
// that TensorBoard shows it and a crash loses nothing. IoError when that fails; the writer can be used on.
class EventWriter {
 public:
  explicit EventWriter(const std::filesystem::path& folder);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void scalars(int64_t step, std::span<const std::pair<std::string, float>> values);
  const std::filesystem::path& path() const { return path_; }

 private:
  void append(const Event& event);

  std::filesystem::path path_;
  uint64_t good_bytes_ = 0;  // whole records; a failed write is cut off
  int fd_ = -1;
};

}  // namespace glia
