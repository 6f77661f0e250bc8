#pragma once
// UNets (Ronneberger, Fischer and Brox 2015) by the layers of four well-known systems. All give logits; level i of the encoder
// has base_channels 2^i channels.
//   unet_original  unpadded 3x3 convolutions + ReLU, transposed 2x2 up, centre crop, concat [crop, up]
//   unet_keras     zhixuhao's: padded 3x3 + ReLU, nearest x2 and 2x2 + ReLU up, concat [skip, up], dropout at the two deepest
//   levels
//   unet_dsb       Kaggle DSB-2018 style: padded 3x3 + ELU, dropout between the two, transposed 2x2 up, concat [up, skip]
//   unet_milesial  milesial's: (3x3 without bias, batch norm, ReLU) twice, transposed 2x2 or bilinear up, concat [skip, up]
//   unet_plus_plus nested skips and several heads: models/unet_plus_plus.h
// Parameter names are those of the checkpoints in the wild (Keras layers are numbered in order of creation).
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"

namespace glia {

struct UnetOptions {
  std::string name = "unet_keras";
  int64_t in_channels = 1;
  int64_t out_channels = 1;
  int64_t base_channels = 64;
  int64_t depth = 4;             // number of poolings
  std::string head = "direct";   // unet_keras: "keras" puts a 3x3 convolution to 2 channels + ReLU before the last layer
  bool bilinear = false;         // unet_milesial, unet_plus_plus: the way up
  bool dropout = true;           // where the system has it
  bool deep_supervision = true;  // unet_plus_plus: a head on each column, not the last alone
  int64_t prune = 0;             // unet_plus_plus: evaluation goes to this column and no further; 0: all heads, averaged

  void validate() const;  // UsageError naming the key
};

class Unet : public Module {
 public:
  // x (N, H, W, in_channels) -> logits (N, P, Q, out_channels). P, Q are H, W but for unet_original. Throws UsageError for a size
  // that the network cannot take.
  virtual Tensor operator()(const Tensor& x) = 0;

  // Those of every head, for networks with several: losses and probabilities are the means over them.
  virtual std::vector<Tensor> heads(const Tensor& x) { return {(*this)(x)}; }

  // Sides must be multiples of this; 1: any size from 2^depth on.
  virtual int64_t divisor() const = 0;

  // Pixels that an output lacks at each edge of the input (unet_original).
  virtual int64_t margin() const { return 0; }
};

// UsageError naming the network unless both sides of x (N, H, W, C) are multiples of `divisor`.
void check_sides(const char* name, const Tensor& x, int64_t divisor);

std::unique_ptr<Unet> make_unet(const UnetOptions& options);

const std::vector<std::string>& unet_names();

}  // namespace glia
