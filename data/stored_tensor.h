#pragma once
// A tensor as a file of weights holds it: where its bytes lie and how they are to be read. Nothing is taken into memory before it is
// asked for.
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

// Bytes that lie in a mapped file, or were decoded into memory of their own.
struct StoredBytes {
  std::vector<std::byte> own;
  std::span<const std::byte> view;
};

// The bytes that one or several tensors lie in.
struct Storage {
  uint64_t size = 0;                  // of what read() gives
  bool mapped = false;                // what it gives lies in a mapped file, but for what it decoded
  std::function<StoredBytes()> read;  // DataError where they are damaged
  // The same into memory of `size` bytes that is there already, for what has to be decoded; may be absent.
  std::function<void(std::span<std::byte>)> read_into{};
};
std::shared_ptr<const Storage> plain_storage(std::span<const std::byte> bytes, bool mapped);
std::shared_ptr<const Storage> decoded_storage(size_t size, std::function<void(std::span<std::byte>)> read_into);

struct StoredTensor {
  std::string name;
  std::string dtype;             // safetensors' names: F32, I8, BF16 ...
  std::vector<int64_t> shape;    // any rank; tensor() needs at most Shape::max_rank
  std::vector<int64_t> strides;  // in elements
  uint64_t offset = 0;           // of the first element, in elements
  bool big_endian = false;
  bool first_row_last = false;  // the first row of the storage is the tensor's last
  std::shared_ptr<const Storage> storage;

  uint64_t elements() const;
  uint64_t byte_count() const;  // of bytes()

  // In C order, little endian. `source` (a file) stands in messages.
  StoredBytes bytes(const std::string& source) const;
  // I8, I16, U16 become int32; U32, U64 int64 (DataError above its largest); F8 types are refused.
  Tensor tensor(const std::string& source) const;
};

std::string shape_text(const std::vector<int64_t>& shape);  // as to_string(Shape), of any rank
std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape, bool fortran = false);

// Throws DataError unless every element lies in the storage, sizes don't overflow, and the tensor takes no more than its storage or
// 16 MB (a stride of 0 repeats elements).
void check_stored(const StoredTensor& tensor, const std::string& source);

// Little-endian bytes in C order -> a Tensor, by the rules of StoredTensor::tensor(). `mapped`: of a mapped file, whose pages are given
// back on the way.
Tensor tensor_of_bytes(std::string_view dtype, const std::vector<int64_t>& shape, std::span<const std::byte> bytes,
                       const std::string& source, std::string_view name, bool mapped = false);

// Value i of bytes of the type; integers beyond 2^53 are rounded. InternalError for F8 types.
using ElementReader = double (*)(const std::byte* data, size_t i);
ElementReader element_reader(std::string_view dtype);

}  // namespace glia
