#pragma once
// The part of HDF5 that Keras' files have, read and written: format specification version 3.0, superblocks 0 and 1, groups by symbol tables, object
// headers of version 1, data in one piece. The library of HDF5 is not used: it follows links out of the file, loads plug-ins, and
// was not made for files that mean harm.
#include <span>

#include "data/safetensors_header.h"
#include "data/weights.h"

namespace glia {

bool looks_like_hdf5(std::span<const std::byte> bytes);

// Data sets become tensors, named by their paths; attributes that are one number or text become scalars, as do the texts of
// layer_names (layer_names/0, ...). The bytes must outlive `weights`. DataError naming weights.source for anything damaged,
// hostile, or outside the part above (chunks and filters, links other than to objects of the file, data in other files); tensors
// are read when they are asked for.
void read_hdf5(std::span<const std::byte> bytes, Weights& weights);

// What such a file begins with; the data follow. Says of each data set, a group where its name has a "/", at which byte of the
// file its data have to be. DataError for types that are neither F16, F32, F64 nor integers, and for names that are no paths.
std::string hdf5_head(std::vector<SafetensorsEntry>& entries);

}  // namespace glia
