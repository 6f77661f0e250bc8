#pragma once
// UNet++ (Zhou et al. 2018): between encoder and decoder lie nodes X^{i,j}, level i, column j, each fed by all earlier nodes of its level
// and by the one below. By the layers and names of two well-known systems:
//   bilinear    4uiiurz1's: (3x3, batch norm, ReLU) twice, bilinear x2 up, concat [skips, up]; conv0_0.conv1, ..., final1 (one head: final)
//   transposed  the paper's Keras code: (3x3, ReLU, dropout .5) twice, transposed 2x2 up, concat [up, skips]; conv0_0.0, up0_1, head1
#include "models/unet.h"

namespace glia {

// heads(x): with deep supervision logits of X^{0,1} to X^{0,depth} in training, and in evaluation all of them or, where options.prune is d, those of
// X^{0,d} alone; nodes that these don't need are not computed. Without deep supervision those of X^{0,depth}.
std::unique_ptr<Unet> make_unet_plus_plus(const UnetOptions& options);

}  // namespace glia
