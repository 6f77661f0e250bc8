#pragma once
// NumPy's .npy (one array) and .npz (a ZIP archive of them). Format: numpy.lib.format, versions 1 to 3. Plain numbers only:
// arrays of objects and structures are refused. One Python object (np.save of a dict) is a pickle behind a header, which read_weights reads
// as inert values.
#include <map>
#include <optional>
#include <span>
#include <string>

#include "data/stored_tensor.h"
#include "data/zip.h"
#include "tensor/tensor.h"

namespace glia {

// The array in the bytes of a .npy file, which must outlive it; named "array". DataError: damaged, cut off, bytes left over, or an
// element type that is not supported. Any byte order and both memory orders.
StoredTensor parse_npy(std::span<const std::byte> bytes, const std::string& name);

// The same of a file of `size` bytes of which only `head` is there: its header, or all of it.
struct NpyArray {
  StoredTensor tensor;  // without its storage,
  size_t data = 0;      // which begins at this byte
};
NpyArray parse_npy_head(std::span<const std::byte> head, uint64_t size, const std::string& name);
// How long the header is by a file's first 12 bytes, whatever they are; at most what is read.
size_t npy_header_size(std::span<const std::byte> first);

// Where the pickle begins in a .npy of one Python object; nothing for arrays of numbers. DataError for a damaged header.
std::optional<size_t> npy_object(std::span<const std::byte> bytes, const std::string& name);
std::string npy_object_header();

// The same as a Tensor (StoredTensor::tensor says which type becomes which).
Tensor read_npy(const std::filesystem::path& path);
Tensor decode_npy(std::span<const std::byte> bytes, const std::string& name);
std::map<std::string, Tensor> read_npz(const std::filesystem::path& path, const ZipLimits& limits = {});  // names without ".npy"

void write_npy(const std::filesystem::path& path, const Tensor& tensor);  // version 1, little endian, C order
std::string encode_npy(const Tensor& tensor);                             // bfloat16 has no NumPy type: InternalError
// What comes before the data, in C order, of safetensors' type such as "F32".
std::string npy_header(std::string_view dtype, const std::vector<int64_t>& shape);
void write_npz(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors, bool deflate = true);

}  // namespace glia
