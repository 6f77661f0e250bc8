// Writers of weights; see weights.h. (PyTorch's is in torch_file.cpp.)
#include <algorithm>

#include "data/hdf5.h"
#include "data/npy.h"
#include "data/pickle_write.h"
#include "data/safetensors.h"
#include "data/safetensors_header.h"
#include "data/torch_file.h"
#include "data/weights.h"
#include "tensor/error.h"

namespace glia {
namespace {

// NumPy has no bfloat16: its values as float32.
StoredTensor as_numpy(const StoredTensor& t, const std::string& source, std::vector<Tensor>& keep) {
  if (t.dtype.starts_with("F8")) throw DataError("{}: \"{}\" is {}, which NumPy cannot hold", source, t.name, t.dtype);
  if (t.dtype != "BF16") return t;
  const StoredBytes bytes = t.bytes(source);
  const Tensor wide({static_cast<int64_t>(t.elements())});
  const ElementReader value = element_reader(t.dtype);
  for (int64_t i = 0; i < wide.size(); ++i)
    wide.data<float>()[i] = static_cast<float>(value(bytes.view.data(), static_cast<size_t>(i)));
  keep.push_back(wide);
  StoredTensor out = t;
  out.dtype = "F32";
  out.strides = dense_strides(t.shape);
  out.offset = 0;
  out.big_endian = out.first_row_last = false;
  out.storage = plain_storage({wide.raw(), wide.bytes()}, false);
  return out;
}

void write_stored_safetensors(const std::filesystem::path& path, const Weights& weights) {
  std::vector<SafetensorsEntry> entries;
  for (const StoredTensor& t : weights.tensors) entries.push_back({t.name, t.dtype, t.shape, 0, 0});
  Metadata metadata;
  for (const auto& [key, value] : weights.scalars)
    if (std::holds_alternative<std::string>(value)) metadata[key] = std::get<std::string>(value);
  const EntryBytes bytes_of = [&weights](const std::string& name, const TakeBytes& take) {
    take(weights.find(name)->bytes(weights.source).view);
  };
  write_safetensors(path, std::move(entries), bytes_of, metadata);
}

// numpy.core.multiarray is the name that both NumPy 1 and 2 understand.
void write_pickle(const std::filesystem::path& path, const Weights& weights) {
  PickleWriter p(4);
  p.dict().begin().text("model").dict().begin();
  AtomicFile file(path);
  for (const StoredTensor& t : weights.tensors) {
    std::vector<Tensor> keep;
    const StoredTensor array = as_numpy(t, weights.source, keep);
    p.text(t.name);
    p.numpy_array(array.dtype, array.shape, array.bytes(weights.source).view);
    file.write(p.take());
  }
  p.set_items().text("__author__").text("Glia").set_items();
  file.write(p.finish());
  file.commit();
}

void write_stored_npz(const std::filesystem::path& path, const Weights& weights) {
  ZipWriter zip(path);
  for (const StoredTensor& t : weights.tensors) {
    std::vector<Tensor> keep;
    const StoredTensor array = as_numpy(t, weights.source, keep);
    const StoredBytes bytes = array.bytes(weights.source);
    if (!is_zip_name(t.name)) throw DataError("{}: \"{}\" cannot be the name of an archive's member", weights.source, t.name);
    std::string content = npy_header(array.dtype, array.shape);
    if (!bytes.view.empty()) content.append(reinterpret_cast<const char*>(bytes.view.data()), bytes.view.size());
    zip.add(t.name + ".npy", content, false);
  }
  zip.commit();
}

void write_stored_hdf5(const std::filesystem::path& path, const Weights& weights) {
  std::vector<SafetensorsEntry> entries;
  for (const StoredTensor& t : weights.tensors) entries.push_back({t.name, t.dtype == "BF16" ? "F32" : t.dtype, t.shape, 0, 0});
  std::string head;
  try {
    head = hdf5_head(entries);
  } catch (const DataError& e) {
    throw DataError("{}: {}", weights.source, e.what());
  }
  AtomicFile file(path);
  file.write(head);
  for (size_t i = 0; i < entries.size(); ++i) {
    std::vector<Tensor> keep;
    const StoredTensor array = as_numpy(weights.tensors[i], weights.source, keep);
    file.write(std::string(static_cast<size_t>(entries[i].begin - file.size()), '\0'));
    file.write(array.bytes(weights.source).view);
  }
  file.commit();
}

}  // namespace

Weights weights_of(const std::map<std::string, Tensor>& tensors, std::string source) {
  Weights weights;
  weights.source = std::move(source);
  for (const auto& [name, tensor] : tensors) {
    const auto host = std::make_shared<const Tensor>(tensor.to(Device{}).detach());
    const auto dims = host->shape().dims();
    StoredTensor t;
    t.name = name;
    t.dtype = stored_name(host->dtype());
    t.shape = {dims.begin(), dims.end()};
    t.strides = dense_strides(t.shape);
    t.storage = plain_storage({host->raw(), host->bytes()}, false);
    weights.tensors.push_back(std::move(t));
    weights.keep.push_back(host);
  }
  return weights;
}

void write_weights(const std::filesystem::path& path, const Weights& weights, WeightsFormat format) {
  switch (format) {
    case WeightsFormat::safetensors: return write_stored_safetensors(path, weights);
    case WeightsFormat::torch: return write_torch_zip(path, weights);
    case WeightsFormat::pickle: return write_pickle(path, weights);
    case WeightsFormat::npz: return write_stored_npz(path, weights);
    case WeightsFormat::hdf5: return write_stored_hdf5(path, weights);
  }
}

}  // namespace glia
