// Recognises what a file of weights is, and reads the formats that need no reader of their own; see the header.
#include "data/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <optional>

#include "data/hdf5.h"
#include "data/limits.h"
#include "data/npy.h"
#include "data/pickle.h"
#include "data/safetensors.h"
#include "data/torch_file.h"
#include "data/weights_pickle.h"
#include "tensor/error.h"

namespace glia {
namespace {

bool by_name(const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; }

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  uint64_t length = 0;
  if (bytes.size() < 9) return false;
  std::memcpy(&length, bytes.data(), sizeof length);
  const bool pickle = bytes[0] == std::byte{0x80} && bytes[1] <= std::byte{5};
  return bytes[8] == std::byte{'{'} && (!pickle || length <= static_cast<uint64_t>(file_limits().safetensors_header));
}

void read_safetensors(std::span<const std::byte> bytes, Weights& weights) {
  const auto file = std::make_shared<const SafetensorsFile>(bytes, weights.source, weights.mapped);
  file->verify();
  for (const SafetensorsEntry& e : file->entries()) {
    StoredTensor t;
    t.name = e.name;
    t.dtype = e.dtype;
    t.shape = e.shape;
    t.strides = dense_strides(e.shape);
    t.storage = plain_storage(file->raw(e), weights.mapped);
    weights.tensors.push_back(std::move(t));
  }
  std::sort(weights.tensors.begin(), weights.tensors.end(), by_name);
  for (const auto& [key, value] : file->metadata()) weights.scalars.emplace(key, value);
  weights.format = "safetensors";
}

// The bytes behind an array's header, decoded straight into the memory that they are for.
std::shared_ptr<const Storage> deflated_array(const ZipFile& zip, const ZipEntry& entry, size_t header) {
  return decoded_storage(static_cast<size_t>(entry.size) - header, [&zip, &entry, header](std::span<std::byte> out) {
    std::vector<std::byte> head(header);
    zip.read_into(entry, head, out);
  });
}

void read_npz(std::shared_ptr<const ZipFile> zip, Weights& weights) {
  constexpr std::string_view ending = ".npy";
  for (const ZipEntry& e : zip->entries()) {
    if (count_code_points(e.name, 0x10ffff) < 0) throw DataError("{}: the name of a member is no valid UTF-8", weights.source);
    const std::string where = weights.source + ", member " + e.name;
    NpyArray array = parse_npy_head(zip->head(e, npy_header_size(zip->head(e, 12))), e.size, where);
    StoredTensor& t = array.tensor;
    t.storage =
        e.deflated ? deflated_array(*zip, e, array.data) : plain_storage(zip->checked(e).subspan(array.data), weights.mapped);
    t.name = e.name.substr(0, e.name.size() - ending.size());
    weights.tensors.push_back(std::move(t));
  }
  std::sort(weights.tensors.begin(), weights.tensors.end(), by_name);
  weights.format = "NumPy (npz)";
  weights.keep.push_back(zip);
}

void read_zip(std::span<const std::byte> bytes, Weights& weights) {
  const uint64_t member = bytes.size() + static_cast<uint64_t>(file_limits().tensor_growth), unlimited = uint64_t{1} << 50;
  const auto zip = std::make_shared<const ZipFile>(
      bytes, weights.source, ZipLimits{.bytes = unlimited, .member = member, .ratio = unlimited, .raised_by = "tensor_growth"},
      weights.mapped);
  if (is_torch_zip(*zip)) return read_torch_zip(zip, weights);
  const auto& entries = zip->entries();
  if (!std::all_of(entries.begin(), entries.end(), [](const ZipEntry& e) { return e.name.ends_with(".npy"); }))
    throw DataError("{}: a ZIP archive that is neither PyTorch's (no data.pkl) nor NumPy's (members that are no .npy)",
                    weights.source);
  read_npz(zip, weights);
}

void read_pickle(std::span<const std::byte> bytes, size_t begin, Weights& weights) {
  const auto pickle = std::make_shared<const Pickle>(bytes, weights.source, begin);
  if (is_torch_legacy(*pickle)) return read_torch_legacy(bytes, *pickle, weights);
  if (pickle->end() != bytes.size())
    throw DataError("{}: {} bytes after the end of the pickle", weights.source, bytes.size() - pickle->end());
  const StorageOfId none = [&](const PickleNode&) -> std::shared_ptr<const Storage> {
    throw DataError("{}: a pickle of PyTorch tensors without their storages", weights.source);
  };
  flatten_pickle(*pickle, weights.mapped, none, weights);
  weights.keep.push_back(pickle);
  weights.format = "pickle";
  const auto flag = weights.scalars.find("matching_heuristics");
  weights.match_by_suffix = flag != weights.scalars.end() && flag->second == Scalar(true);
  if (weights.scalars.contains("__author__")) {
    weights.format = "detectron2 (pickle)";
  } else {
    rename_caffe2_blobs(weights);
  }
}

bool begins_pickle(std::span<const std::byte> bytes) {
  const auto first = std::to_integer<uint8_t>(bytes[0]);
  if (first == 0x80) return bytes.size() > 1 && bytes[1] <= std::byte{16};
  return std::string_view("(c]})lN").find(static_cast<char>(first)) != std::string_view::npos;
}

[[noreturn]] void fail_unknown(std::span<const std::byte> bytes, const std::string& source) {
  constexpr std::array<uint8_t, 8> mxnet_list{0x12, 1};
  if (bytes.size() >= mxnet_list.size() && std::memcmp(bytes.data(), mxnet_list.data(), mxnet_list.size()) == 0)
    throw DataError(
        "{}: weights of MXNet, as Cellpose's first models are, are not read; want the model's PyTorch file (of cyto_0 it is "
        "cytotorch_0)",
        source);
  std::string first;
  for (const std::byte b : bytes.first(std::min<size_t>(bytes.size(), 8)))
    first += fmt::format(" {:02x}", std::to_integer<unsigned>(b));
  throw DataError(
      "{}: no file of weights that is known (it begins with{}); want safetensors, PyTorch's .pth or .pt, a .pkl of NumPy arrays, "
      ".npz, .npy, or Keras' .h5",
      source, first);
}

}  // namespace

const StoredTensor* Weights::find(std::string_view name) const {
  const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                      [](const StoredTensor& t, std::string_view n) { return t.name < n; });
  return found != tensors.end() && found->name == name ? &*found : nullptr;
}

bool is_foreign_weights(const std::filesystem::path& path) {
  std::array<char, 16> first{};
  std::ifstream(path, std::ios::binary).read(first.data(), first.size());
  const std::string_view text(first.data(), first.size());
  const auto bytes = std::as_bytes(std::span(first));
  if (looks_like_safetensors(bytes)) return false;
  return text.starts_with("\x93NUMPY") || text.starts_with("PK\3\4") || text.starts_with("\x80\2") || looks_like_hdf5(bytes);
}

Weights read_weights(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path))
    throw DataError("{}: a folder; name a file, such as the checkpoints/best.safetensors of a run", path.string());
  const auto file = std::make_shared<const MappedFile>(path);
  Weights weights = parse_weights(file->bytes(), path.string(), true);
  weights.keep.push_back(file);
  return weights;
}

Weights parse_weights(std::span<const std::byte> bytes, const std::string& source, bool mapped) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Weights weights;
  weights.source = source;
  weights.mapped = mapped;
  if (text.empty()) throw DataError("{}: the file is empty", source);
  if (text.starts_with("\x93NUMPY")) {
    if (const auto object = npy_object(bytes, source)) {
      read_pickle(bytes, *object, weights);
    } else {
      weights.tensors.push_back(parse_npy(bytes, source));
    }
    weights.format = "NumPy (npy)";
  } else if (text.starts_with("PK\3\4") || text.starts_with("PK\5\6")) {
    read_zip(bytes, weights);
  } else if (looks_like_safetensors(bytes)) {
    read_safetensors(bytes, weights);
  } else if (looks_like_hdf5(bytes)) {
    read_hdf5(bytes, weights);
  } else if (text.size() > 262 && text.substr(257, 5) == "ustar") {
    throw DataError("{}: PyTorch's oldest format (a tar archive) is not read; load and save it again with PyTorch", source);
  } else if (begins_pickle(bytes)) {
    read_pickle(bytes, 0, weights);
  } else if (source.ends_with(".safetensors")) {
    read_safetensors(bytes, weights);  // which says what is wrong
  } else {
    fail_unknown(bytes, source);
  }
  return weights;
}

Weights model_weights(const Weights& weights) {
  Weights out{.source = weights.source,
              .format = weights.format,
              .tensors = {},
              .scalars = weights.scalars,
              .match_by_suffix = weights.match_by_suffix,
              .mapped = weights.mapped,
              .keep = weights.keep};
  const auto begins = [&](std::string_view prefix) {
    return std::any_of(weights.tensors.begin(), weights.tensors.end(), [&](const auto& t) { return t.name.starts_with(prefix); });
  };
  std::string_view prefix;
  for (const std::string_view p : {"model/", "model_state/", "state_dict/", "model_weights/"})
    if (prefix.empty() && begins(p)) prefix = p;
  const auto format = weights.scalars.find("format");
  const bool own = format != weights.scalars.end() && std::holds_alternative<std::string>(format->second) &&
                   std::get<std::string>(format->second).starts_with("glia checkpoint");
  std::map<std::string, const StoredTensor*> kept;
  for (const StoredTensor& t : weights.tensors)
    if (t.name.starts_with(prefix) && !(own && (t.name.starts_with("ema.") || t.name.starts_with("optimizer."))))
      kept[t.name.substr(prefix.size())] = &t;
  for (const StoredTensor& t : weights.tensors)  // averaged weights are the better ones
    if (own && t.name.starts_with("ema.")) kept[t.name.substr(4)] = &t;
  for (const auto& [name, t] : kept) out.tensors.emplace_back(*t).name = name;
  return out;
}

}  // namespace glia
