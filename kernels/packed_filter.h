#pragma once
// What a convolution on the CPU makes of its filter before it can start (Winograd's transform of it, panels of a matrix product), kept
// from one call to the next while the weights stay as they are: in inference. It takes about the filter's memory; run.pack_weights =
// false keeps nothing. Results have the same bits either way.
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "tensor/tensor.h"

namespace glia {

bool pack_weights();  // true unless set otherwise
void set_pack_weights(bool on);

// Whoever writes into a layer's weights says so here: what was made of any weights before is made anew at its next use.
void weights_changed();

// A layer has one. Any number of threads may call.
class PackedFilter {
 public:
  // What `make` makes of this filter, from an earlier call where that still holds. What it makes has a form, such as its algorithm's
  // name, which may change with the image: the last one is kept.
  Tensor get(const Tensor& filter, std::string_view form, const std::function<Tensor()>& make);
  void clear();

 private:
  std::mutex mutex_;
  Tensor filter_, packed_;  // the filter's handle, so that no other tensor can take its place in memory
  std::string form_;
  uint64_t version_ = 0;
};

}  // namespace glia
