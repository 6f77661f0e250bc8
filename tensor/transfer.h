#pragma once
// Copies between the host and a device that nobody waits for: batches on their way there, numbers on their way back. On the CPU both
// are plain.
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "gpu/runtime.h"
#include "tensor/tensor.h"

namespace glia {

// Host memory that a device copies from and to by itself. Throws OutOfMemoryError or DeviceError.
class PinnedMemory {
 public:
  PinnedMemory(Device device, size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Device device_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Brings batches to a device beside its work: through pinned memory and on a stream of its own, into two sets of tensors in turn.
//
//   uploader.begin(second);    // on its way, while the device still works on the first
//   tensors = uploader.take(); // what is launched from now on finds it there
//
// Invariants: slots_[next_] is where begin() puts the next batch, and where take() finds it; what take() gave may be used by work that is
// launched before the take() after it. begin() waits for nothing but its own copy of two batches ago, which bounds how far the host
// runs ahead.
class Uploader {
 public:
  explicit Uploader(Device device);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  void begin(std::span<const Tensor> batch);  // host tensors, free to change on return. One that was begun and not taken is dropped
  std::vector<Tensor> take();

 private:
  struct Slot {
    std::vector<Tensor> tensors;
    std::unique_ptr<PinnedMemory> staging;
    gpu::Event copied = nullptr;    // on stream_: the tensors are there, the staging memory is free
    gpu::Event released = nullptr;  // on the compute stream: the last work on the tensors was launched before
  };
  bool fit(Slot& slot, std::span<const Tensor> batch) const;

  Device device_;
  gpu::Stream stream_ = nullptr;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;
  bool begun_ = false;
};

// Numbers on their way to the host, each as it is when the device reaches the place where it was asked for. One wait() for all.
class ReadBack {
 public:
  explicit ReadBack(Device device) : device_(device) {}
  ~ReadBack();  // waits for what is on its way
  ReadBack(const ReadBack&) = delete;
  ReadBack& operator=(const ReadBack&) = delete;

  size_t add(const Tensor& number);  // one element, float32 or float64; returns its index, counted from the last clear()
  void wait();
  double operator[](size_t index) const;  // after wait()
  void clear() { numbers_.clear(); }

 private:
  static constexpr size_t slot_bytes = sizeof(double), slots_per_block = 512;

  struct Number {
    DType dtype;
    double value;  // on the CPU
  };
  std::byte* slot(size_t index) const { return blocks_[index / slots_per_block]->data() + index % slots_per_block * slot_bytes; }

  Device device_;
  std::vector<Number> numbers_;
  std::vector<std::unique_ptr<PinnedMemory>> blocks_;
};

}  // namespace glia
