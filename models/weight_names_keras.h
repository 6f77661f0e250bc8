#pragma once
// Names and layouts of Keras' weights: CONV/CONV/kernel:0 of .h5, layers/CONV/vars/0 of .weights.h5, kernels as (height, width,
// in, out).
#include "data/weights.h"

namespace glia {

bool are_of_keras(const Weights& weights);

// As the UNets of Keras have them here: conv2d.weight, conv2d.bias, conv2d_1.weight, ...; kernels by out and in, then height and
// width. Layers of a kind that Keras numbers are numbered anew from none on, by the file's layer_names where it has them, else by
// their old numbers: a second model of a process begins at conv2d_23. Those that have other names keep them. The optimizer's
// state is left out.
Weights from_keras(const Weights& weights);

// The way back, to the names of .weights.h5 as Keras 3 loads it. DataError for a layer that is none of a kind that Keras numbers.
Weights to_keras(const Weights& weights);

}  // namespace glia
