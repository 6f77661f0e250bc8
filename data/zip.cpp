// ZIP archives over zlib; see the header.
#include "data/zip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "tensor/error.h"

namespace glia {
namespace {

constexpr uint64_t local_magic = 0x04034b50, central_magic = 0x02014b50, end_magic = 0x06054b50;
constexpr uint64_t end64_magic = 0x06064b50, locator64_magic = 0x07064b50;
constexpr uint64_t end_size = 22, end64_size = 56, locator64_size = 20, central_size = 46, local_size = 30;
constexpr uint64_t max_comment = 65'535, max_version = 63;
constexpr uint64_t in_zip64 = 0xffffffff;

uint32_t crc_of(std::span<const std::byte> bytes, bool mapped = false) {
  uLong crc = 0;
  in_pieces(bytes, mapped, [&crc](std::span<const std::byte> part) {
    crc = ::crc32_z(crc, reinterpret_cast<const Bytef*>(part.data()), part.size());
  });
  return static_cast<uint32_t>(crc);
}

// A deflated stream, decoded from its beginning on. It is taken in pieces, and what is decoded is summed while the cache holds it.
class Inflater {
 public:
  Inflater(std::span<const std::byte> in, bool mapped, const std::string& name) : in_(in), mapped_(mapped) {
    if (::inflateInit2(&z_, -MAX_WBITS) != Z_OK) throw OutOfMemoryError("{}: no memory for zlib", name);
  }
  ~Inflater() { ::inflateEnd(&z_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // The next bytes; returns how many: fewer than there is room for at the end, and where the stream is damaged.
  size_t read(std::span<std::byte> out) {
    constexpr size_t piece = size_t{1} << 20;
    size_t given = 0;
    while (result_ == Z_OK && given < out.size()) {
      if (z_.avail_in == 0 && !next_piece()) break;
      const size_t room = std::min(piece, out.size() - given);
      auto* const to = reinterpret_cast<Bytef*>(out.data() + given);
      z_.next_out = to;
      z_.avail_out = static_cast<uInt>(room);
      result_ = ::inflate(&z_, Z_NO_FLUSH);
      const size_t now = room - z_.avail_out;
      crc_ = ::crc32_z(crc_, to, now);
      given += now;
    }
    if (result_ == Z_STREAM_END) release();
    return given;
  }

  // Whether the stream ends here, with the last of its bytes.
  bool ends() {
    std::byte more[1];  // zlib wants room even for no bytes
    return read(more) == 0 && result_ == Z_STREAM_END && z_.avail_in == 0 && in_.empty();
  }
  uint32_t crc() const { return static_cast<uint32_t>(crc_); }

 private:
  bool next_piece() {
    constexpr size_t piece = size_t{4} << 20;
    release();
    if (in_.empty()) return false;
    now_ = in_.first(std::min(piece, in_.size()));
    in_ = in_.subspan(now_.size());
    z_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(now_.data()));
    z_.avail_in = static_cast<uInt>(now_.size());
    return true;
  }
  void release() {
    if (mapped_) MappedFile::release(now_);
  }

  std::span<const std::byte> in_, now_;  // what was not begun yet, and the piece that is being decoded
  bool mapped_;
  z_stream z_{};
  int result_ = Z_OK;
  uLong crc_ = 0;
};

// Deflates everything, in pieces of 32 bits; false where zlib fails.
bool deflate_all(z_stream& z, std::span<const std::byte> in, std::span<std::byte> out) {
  constexpr size_t piece = size_t{1} << 30;
  size_t taken = 0, given = 0;
  for (;;) {
    const size_t in_now = std::min(piece, in.size() - taken), out_now = std::min(piece, out.size() - given);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data() + taken));
    z.avail_in = static_cast<uInt>(in_now);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + given);
    z.avail_out = static_cast<uInt>(out_now);
    const int result = ::deflate(&z, taken + in_now == in.size() ? Z_FINISH : Z_NO_FLUSH);
    taken += in_now - z.avail_in;
    given += out_now - z.avail_out;
    const bool moved = z.avail_in != in_now || z.avail_out != out_now;
    if (result == Z_STREAM_END || (result != Z_OK && result != Z_BUF_ERROR) || !moved) return result == Z_STREAM_END;
  }
}

class LittleEndian {
 public:
  template <class T>
  LittleEndian& put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) text_ += static_cast<char>(static_cast<uint64_t>(value) >> 8 * i & 0xff);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

bool is_zip_name(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != name.npos || name.find('\0') != name.npos) return false;
  if (name.size() > 1 && name[1] == ':') return false;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    if (name.substr(at, end - at) == "..") return false;
    at = end + 1;
  }
  return true;
}

ZipFile::ZipFile(const std::filesystem::path& path, const ZipLimits& limits)
    : name_(path.string()), file_(std::in_place, path), mapped_(true) {
  bytes_ = file_->bytes();
  parse(limits);
}

ZipFile::ZipFile(std::span<const std::byte> bytes, std::string name, const ZipLimits& limits, bool mapped)
    : name_(std::move(name)), mapped_(mapped), bytes_(bytes) {
  parse(limits);
}

void ZipFile::fail(std::string_view what, uint64_t at) const {
  throw DataError("{}: damaged ZIP archive: {} (at byte {} of {})", name_, what, at, bytes_.size());
}

uint64_t ZipFile::number(uint64_t at, size_t n) const {
  if (at > bytes_.size() || n > bytes_.size() - at) fail("the file was cut off", at);
  uint64_t v = 0;
  for (size_t i = n; i-- > 0;) v = v << 8 | std::to_integer<uint64_t>(bytes_[at + i]);
  return v;
}

void ZipFile::parse(const ZipLimits& limits) {
  if (bytes_.size() < end_size) fail("the file is too short", bytes_.size());
  // The end record, whose comment reaches to the end of the file.
  uint64_t end = bytes_.size() - end_size;
  const uint64_t lowest = end > max_comment ? end - max_comment : 0;
  while (!(number(end, 4) == end_magic && number(end + 20, 2) == bytes_.size() - end - end_size)) {
    if (end-- == lowest) fail("no directory at its end; the file was cut off, or is no ZIP archive", bytes_.size());
  }
  if (number(end + 4, 2) != 0 || number(end + 6, 2) != 0) fail("it has several parts", end);
  uint64_t count = number(end + 10, 2), size = number(end + 12, 4), begin = number(end + 16, 4);
  uint64_t directory_end = end;
  if (end >= locator64_size && number(end - locator64_size, 4) == locator64_magic) {
    const uint64_t end64 = number(end - locator64_size + 8, 8);
    if (end64 > end - locator64_size || end - locator64_size - end64 < end64_size || number(end64, 4) != end64_magic)
      fail("its Zip64 end record is not where it says", end - locator64_size);
    if (number(end64 + 4, 8) != end - locator64_size - end64 - 12) fail("its Zip64 end record has a wrong size", end64);
    count = number(end64 + 32, 8), size = number(end64 + 40, 8), begin = number(end64 + 48, 8);
    directory_end = end64;
  }
  if (begin > directory_end || size != directory_end - begin) fail("its directory is not where it says", end);
  if (count > limits.entries)
    throw DataError("{}: a ZIP archive of {} members, at most {} are allowed", name_, count, limits.entries);
  read_directory(begin, directory_end, count, limits);
  check_layout(begin);
}

void ZipFile::read_directory(uint64_t begin, uint64_t end, uint64_t count, const ZipLimits& limits) {
  uint64_t at = begin, total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    if (end - at < central_size || number(at, 4) != central_magic) fail("an entry of its directory is missing", at);
    const uint64_t flags = number(at + 8, 2), method = number(at + 10, 2);
    if (number(at + 6, 1) > max_version) fail("a member wants a version of the format that is not read", at);
    const uint64_t name_size = number(at + 28, 2), extra_size = number(at + 30, 2), comment_size = number(at + 32, 2);
    if (end - at - central_size < name_size + extra_size + comment_size) fail("an entry of its directory is too long", at);
    ZipEntry e;
    e.name.assign(reinterpret_cast<const char*>(bytes_.data()) + at + central_size, name_size);
    e.crc = static_cast<uint32_t>(number(at + 16, 4));
    e.compressed = number(at + 20, 4);
    e.size = number(at + 24, 4);
    e.header = number(at + 42, 4);
    e.deflated = method == 8;
    e.utf8 = flags & 0x800;
    // The extra field 1 holds, in this order, those of the three that were all ones.
    const uint64_t extra_end = at + central_size + name_size + extra_size;
    for (uint64_t x = at + central_size + name_size; extra_end - x >= 4;) {
      const uint64_t id = number(x, 2), n = number(x + 2, 2);
      if (n > extra_end - x - 4) fail("an extra field is too long", x);
      uint64_t field = x + 4;
      for (uint64_t* v : {&e.size, &e.compressed, &e.header}) {
        if (id != 1 || *v != in_zip64) continue;
        if (x + 4 + n - field < 8) fail("a Zip64 field is too short", x);
        *v = number(field, 8);
        field += 8;
      }
      x += 4 + n;
    }
    if (!is_zip_name(e.name)) throw DataError("{}: a member's name leaves the archive's folder: \"{}\"", name_, e.name);
    if (flags & 0x2061) throw DataError("{}: \"{}\" is encrypted or a patch, which is not supported", name_, e.name);
    if (method != 0 && method != 8)
      throw DataError("{}: \"{}\" is compressed by method {}; only stored and deflated members are supported", name_, e.name,
                      method);
    if (!e.deflated && e.size != e.compressed) fail("a stored member of two sizes", at);
    if (e.deflated && e.size > limits.free_bytes && e.size / limits.ratio > e.compressed)
      throw DataError("{}: \"{}\" is {} bytes and would become {}, more than {} times as much; a file made to exhaust memory?{}",
                      name_, e.name, e.compressed, e.size, limits.ratio, raise_hint("zip_ratio"));
    if (e.deflated && e.size > limits.member)
      throw DataError("{}: \"{}\" decodes to {} bytes, at most {} are allowed; a file made to exhaust memory?{}", name_, e.name,
                      e.size, limits.member, raise_hint(limits.raised_by));
    if (e.deflated && (e.size > limits.bytes || (total += e.size) > limits.bytes))
      throw DataError("{}: its members decode to more than the {} bytes allowed{}", name_, limits.bytes,
                      raise_hint("decoded_bytes"));
    if (!index_.emplace(e.name, entries_.size()).second) throw DataError("{}: two members \"{}\"", name_, e.name);
    entries_.push_back(std::move(e));
    at += central_size + name_size + extra_size + comment_size;
  }
  if (at != end) fail("bytes after the last entry of its directory", at);
}

// Local headers must agree with the directory, and members lie one behind the other from the first byte on. (A member may be
// followed by a data descriptor, 12 to 24 bytes.)
void ZipFile::check_layout(uint64_t directory) {
  std::vector<ZipEntry*> order;
  for (ZipEntry& e : entries_) order.push_back(&e);
  std::sort(order.begin(), order.end(), [](const ZipEntry* a, const ZipEntry* b) { return a->header < b->header; });
  uint64_t at = 0, slack = 0;
  for (ZipEntry* e : order) {
    if (e->header < at) fail("two members overlap", e->header);
    if (e->header - at > slack) fail("bytes that belong to no member", at);
    if (number(e->header, 4) != local_magic) fail("a member's header is missing", e->header);
    const uint64_t flags = number(e->header + 6, 2), method = number(e->header + 8, 2);
    const uint64_t name_size = number(e->header + 26, 2), extra_size = number(e->header + 28, 2);
    e->data = e->header + local_size + name_size + extra_size;
    if (e->data > directory || e->compressed > directory - e->data) fail("a member reaches beyond its directory", e->header);
    const std::string_view name(reinterpret_cast<const char*>(bytes_.data()) + e->header + local_size, name_size);
    const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
    const bool other_name = name != e->name || (!ascii && e->utf8 != bool(flags & 0x800));
    if (other_name || method != (e->deflated ? 8u : 0u)) fail("a member's header disagrees with the directory", e->header);
    if (!(flags & 8)) {  // sizes and checksum stand in the header as well
      const auto same = [&](uint64_t offset, uint64_t v) {
        const uint64_t here = number(e->header + offset, 4);
        return here == v || here == in_zip64;
      };
      if (!same(14, e->crc) || !same(18, e->compressed) || !same(22, e->size))
        fail("a member's header disagrees with the directory", e->header);
    }
    at = e->data + e->compressed;
    slack = flags & 8 ? 24 : 0;
  }
  if (at > directory || directory - at > slack) fail("bytes that belong to no member", at);
}

const ZipEntry& ZipFile::entry(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw DataError("{}: no member \"{}\" among its {}", name_, name, entries_.size());
  return entries_[found->second];
}

std::span<const std::byte> ZipFile::stored(const ZipEntry& entry) const {
  return bytes_.subspan(static_cast<size_t>(entry.data), static_cast<size_t>(entry.compressed));
}

std::span<const std::byte> ZipFile::checked(const ZipEntry& entry) const {
  GLIA_CHECK(!entry.deflated, "{}: \"{}\" is deflated", name_, entry.name);
  if (crc_of(stored(entry), mapped_) != entry.crc)
    fail(fmt::format("member \"{}\" has a wrong checksum", entry.name), entry.data);
  return stored(entry);
}

std::vector<std::byte> ZipFile::read(const ZipEntry& entry) const {
  std::vector<std::byte> out(static_cast<size_t>(entry.size));
  read_into(entry, {}, out);
  return out;
}

void ZipFile::read_into(const ZipEntry& entry, std::span<std::byte> head, std::span<std::byte> rest) const {
  GLIA_CHECK(head.size() + rest.size() == entry.size, "{}: \"{}\" has {} bytes", name_, entry.name, entry.size);
  if (!entry.deflated) {
    const auto in = checked(entry);
    std::copy_n(in.begin(), head.size(), head.begin());
    std::copy(in.begin() + static_cast<std::ptrdiff_t>(head.size()), in.end(), rest.begin());
    return;
  }
  Inflater stream(stored(entry), mapped_, name_);
  const bool whole = stream.read(head) == head.size() && stream.read(rest) == rest.size();
  const uint32_t crc = stream.crc();
  if (!whole || !stream.ends())
    fail(fmt::format("member \"{}\" does not decode to its {} bytes", entry.name, entry.size), entry.data);
  if (crc != entry.crc) fail(fmt::format("member \"{}\" has a wrong checksum", entry.name), entry.data);
}

std::vector<std::byte> ZipFile::head(const ZipEntry& entry, size_t count) const {
  std::vector<std::byte> out(static_cast<size_t>(std::min<uint64_t>(count, entry.size)));
  if (entry.deflated) {
    out.resize(Inflater(stored(entry), mapped_, name_).read(out));
  } else {
    std::copy_n(stored(entry).begin(), out.size(), out.begin());
  }
  return out;
}

void ZipWriter::add(const std::string& name, std::string_view content, bool deflate) {
  GLIA_CHECK(is_zip_name(name) && name.size() <= 0xffff, "{}: \"{}\" is no name for a member", path_.string(), name);
  GLIA_CHECK(index_.emplace(name, entries_.size()).second, "{}: two members \"{}\"", path_.string(), name);
  constexpr uint64_t largest = 0xfffffffe;
  const auto bytes = std::as_bytes(std::span(content.data(), content.size()));
  std::vector<std::byte> packed;
  if (deflate && content.size() < largest) {
    z_stream z{};
    if (::deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
      throw OutOfMemoryError("{}: no memory for zlib", path_.string());
    packed.resize(::deflateBound(&z, static_cast<uLong>(bytes.size())));
    const bool whole = deflate_all(z, bytes, packed);
    packed.resize(z.total_out);
    ::deflateEnd(&z);
    GLIA_CHECK(whole, "{}: zlib does not deflate \"{}\"", path_.string(), name);
  }
  const auto data = deflate ? std::span<const std::byte>(packed) : bytes;
  ZipEntry e{name, content.size(), data.size(), file_.size(), 0, crc_of(bytes), deflate};
  if (e.size > largest || e.header + e.compressed > largest)
    throw DataError("{}: a ZIP archive above 4 GiB is not supported", path_.string());
  LittleEndian h;
  h.put(uint32_t{local_magic}).put(uint16_t{20}).put(uint16_t{0x800});  // version, names are UTF-8
  h.put(static_cast<uint16_t>(deflate ? 8 : 0)).put(uint16_t{0}).put(uint16_t{0x21}).put(e.crc);
  h.put(static_cast<uint32_t>(e.compressed)).put(static_cast<uint32_t>(e.size));
  h.put(static_cast<uint16_t>(name.size())).put(uint16_t{0});
  file_.write(h.text());
  file_.write(name);
  file_.write(data);
  entries_.push_back(std::move(e));
}

void ZipWriter::commit() {
  if (entries_.size() >= 0xffff)
    throw DataError("{}: a ZIP archive of {} members, want fewer than 65535", path_.string(), entries_.size());
  const uint64_t begin = file_.size();
  for (const ZipEntry& e : entries_) {
    LittleEndian h;
    h.put(uint32_t{central_magic}).put(uint16_t{20}).put(uint16_t{20}).put(uint16_t{0x800});
    h.put(static_cast<uint16_t>(e.deflated ? 8 : 0)).put(uint16_t{0}).put(uint16_t{0x21}).put(e.crc);
    h.put(static_cast<uint32_t>(e.compressed)).put(static_cast<uint32_t>(e.size)).put(static_cast<uint16_t>(e.name.size()));
    h.put(uint16_t{0}).put(uint16_t{0}).put(uint16_t{0}).put(uint16_t{0}).put(uint32_t{0}).put(static_cast<uint32_t>(e.header));
    file_.write(h.text());
    file_.write(e.name);
  }
  const uint64_t size = file_.size() - begin;
  if (begin + size > 0xfffffffe) throw DataError("{}: a ZIP archive above 4 GiB is not supported", path_.string());
  LittleEndian h;
  const auto count = static_cast<uint16_t>(entries_.size());
  h.put(uint32_t{end_magic}).put(uint16_t{0}).put(uint16_t{0}).put(count).put(count);
  h.put(static_cast<uint32_t>(size)).put(static_cast<uint32_t>(begin)).put(uint16_t{0});
  file_.write(h.text());
  file_.commit();
}

}  // namespace glia
