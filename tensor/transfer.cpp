#include "tensor/transfer.h"

#include <algorithm>

#include "tensor/stream.h"

namespace glia {
namespace {

constexpr size_t alignment = 256;

size_t staged(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

}  // namespace

PinnedMemory::PinnedMemory(Device device, size_t bytes) : device_(device), size_(bytes) {
  void* p = nullptr;
  check(runtime_of(device).allocate_host(&p, bytes), device);
  data_ = static_cast<std::byte*>(p);
}

PinnedMemory::~PinnedMemory() { (void)runtime_of(device_).release_host(data_); }

Uploader::Uploader(Device device) : device_(device) {
  if (device.kind == DeviceKind::cpu) return;
  const gpu::Runtime& runtime = runtime_of(device);
  check(runtime.create_stream(&stream_), device);
  for (Slot& slot : slots_) {
    check(runtime.create_event(&slot.copied, false), device);
    check(runtime.create_event(&slot.released, false), device);
  }
}

// Nothing of this may fail loudly: after a device's failure, every call does.
Uploader::~Uploader() {
  if (device_.kind == DeviceKind::cpu) return;
  const gpu::Runtime& runtime = runtime_of(device_);
  (void)runtime.synchronize(stream_);
  for (Slot& slot : slots_) {
    (void)runtime.destroy_event(slot.copied);
    (void)runtime.destroy_event(slot.released);
  }
  (void)runtime.destroy_stream(stream_);
}

// Gives the slot tensors like the batch's and room to stage them. Whether the tensors are new ones.
bool Uploader::fit(Slot& slot, std::span<const Tensor> batch) const {
  size_t bytes = 0;
  for (const Tensor& t : batch) bytes += staged(t.bytes());
  if (bytes > 0 && (!slot.staging || slot.staging->size() < bytes)) slot.staging = std::make_unique<PinnedMemory>(device_, bytes);
  const auto alike = [](const Tensor& a, const Tensor& b) { return same_shape(a, b) && a.dtype() == b.dtype(); };
  if (std::equal(batch.begin(), batch.end(), slot.tensors.begin(), slot.tensors.end(), alike)) return false;
  const MemoryScope scope("batch");
  slot.tensors.clear();
  for (const Tensor& t : batch) slot.tensors.emplace_back(t.shape(), t.dtype(), device_);
  return true;
}

void Uploader::begin(std::span<const Tensor> batch) {
  Slot& slot = slots_[next_];
  if (device_.kind == DeviceKind::cpu) {
    slot.tensors.assign(batch.begin(), batch.end());
    begun_ = true;
    return;
  }
  const gpu::Runtime& runtime = runtime_of(device_);
  check(runtime.synchronize_event(slot.copied), device_);
  // New tensors may lie where work that is still queued reads; old ones were let go by the take() after theirs.
  if (fit(slot, batch)) check(runtime.record(slot.released, compute_stream(device_)), device_);
  check(runtime.wait(stream_, slot.released), device_);
  size_t at = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Tensor& from = batch[i];
    if (from.bytes() == 0) continue;
    copy_bytes(slot.staging->data() + at, from.raw(), from.bytes());
    check(runtime.copy(slot.tensors[i].raw(), slot.staging->data() + at, from.bytes(), gpu::CopyKind::host_to_device, stream_), device_);
    at += staged(from.bytes());
  }
  check(runtime.record(slot.copied, stream_), device_);
  begun_ = true;
}

std::vector<Tensor> Uploader::take() {
  GLIA_CHECK(begun_, "uploader: take without begin");
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  begun_ = false;
  if (device_.kind != DeviceKind::cpu) {
    const gpu::Runtime& runtime = runtime_of(device_);
    check(runtime.record(slots_[next_].released, compute_stream(device_)), device_);
    check(runtime.wait(compute_stream(device_), slot.copied), device_);
  }
  return slot.tensors;
}

ReadBack::~ReadBack() {
  if (!blocks_.empty()) (void)runtime_of(device_).synchronize(compute_stream(device_));
}

size_t ReadBack::add(const Tensor& number) {
  GLIA_CHECK(number.size() == 1 && (number.dtype() == DType::float32 || number.dtype() == DType::float64),
             "read back: {} {}, want one floating-point number", name_of(number.dtype()), number.shape());
  const size_t index = numbers_.size();
  if (device_.kind == DeviceKind::cpu) {
    numbers_.push_back({number.dtype(), number.item()});
    return index;
  }
  if (index / slots_per_block == blocks_.size())
    blocks_.push_back(std::make_unique<PinnedMemory>(device_, slots_per_block * slot_bytes));
  numbers_.push_back({number.dtype(), 0});
  check(runtime_of(device_).copy(slot(index), number.raw(), number.bytes(), gpu::CopyKind::device_to_host, compute_stream(device_)),
        device_);
  return index;
}

void ReadBack::wait() { synchronize(device_); }

double ReadBack::operator[](size_t index) const {
  const Number& number = numbers_[index];
  if (device_.kind == DeviceKind::cpu) return number.value;
  if (number.dtype == DType::float64) return *reinterpret_cast<const double*>(slot(index));
  return double(*reinterpret_cast<const float*>(slot(index)));
}

}  // namespace glia
